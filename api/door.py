"""What every route works with, made once for an app."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.group_commit import GroupCommit
from api.long_poll import LongPolls
from api.readiness import Readiness
from jobs.platform import Platform
from jobs.services.intake import Intake


@dataclass(frozen=True, slots=True)
class Door:
    """The services, and the three things that only HTTP needs."""

    platform: Platform
    intake: Intake
    commits: GroupCommit
    polls: LongPolls
    readiness: Readiness


async def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


Api = Annotated[Door, Depends(_door)]
