"""What every route works with, made once for an app."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from callboard.api.group_commit import GroupCommit
from callboard.api.http.long_poll import LongPolls
from callboard.api.job_commits import JobCommits
from callboard.api.key_cache import KeyMemory
from callboard.api.readiness import Readiness
from callboard.jobs.platform import Platform
from callboard.jobs.webhooks.deliveries import Accepted, Incoming
from callboard.jobs.webhooks.intake import Intake


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
