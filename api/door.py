"""What every route works with, made once for an app."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.group_commit import GroupCommit
from api.job_commits import JobCommits
from api.key_memory import KeyMemory
from api.long_poll import LongPolls
from api.readiness import Readiness
from jobs.platform import Platform
from jobs.services.deliveries import Accepted, Incoming
from jobs.services.intake import Intake


@dataclass(frozen=True, slots=True)
class Door:
    """The services, and what only HTTP needs."""

    platform: Platform
    intake: Intake
    keys: KeyMemory
    jobs: JobCommits
    deliveries: GroupCommit[Incoming, Accepted]
    polls: LongPolls
    readiness: Readiness


def door_of(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


async def _door(request: Request) -> Door:
    return door_of(request)


#: For routes that need no key; the others have a Caller.
Api = Annotated[Door, Depends(_door)]
