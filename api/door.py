"""What every route uses, made once for each app."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from callboard.api.http.long_poll import LongPolls
from callboard.api.key_cache import KeyMemory
from callboard.api.readiness import Readiness
from callboard.jobs.platform import Platform
from callboard.jobs.webhooks.intake import Intake


@dataclass(frozen=True, slots=True)
class Door:
    """The services, and what HTTP needs besides."""

    platform: Platform
    intake: Intake
    keys: KeyMemory
    polls: LongPolls
    readiness: Readiness


def door_of(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


async def _door(request: Request) -> Door:
    return door_of(request)


#: For routes that need no key; the others have a Caller.
Api = Annotated[Door, Depends(_door)]
