"""Who asks, and what they may: a Bearer key, one of three roles, perhaps confined to one queue."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from callboard.api.door import Door, door_of
from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.api_keys import Role, require
from callboard.jobs.errors import NotFound, Unauthorized
from callboard.jobs.model.job import Job
from callboard.jobs.platform import Platform

_LONGEST_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, behind which door."""

    key: ApiKey
    door: Door

    @property
    def platform(self) -> Platform:
        return self.door.platform

    def sees(self, queue: str) -> bool:
        """Whether the key may know of a queue and what is in it."""
        return self.key.queue is None or self.key.queue == queue

    def check_sees(self, job: Job) -> None:
        """Pass when the key may know of this job; otherwise it is not there: NotFound."""
        if not self.sees(job.queue):
            raise NotFound(f"there is no job {job.id}")

    def check_queue(self, queue: str) -> None:
        """Pass when the key is not confined to another queue; raises Forbidden."""
        require(self.key, Role.VIEWER, queue=queue)


class _Needs(SecurityBase):
    """A dependency that lets a key of at least this role pass. Listed before the body, it is judged before it, too."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.model = HTTPBearer(
            bearerFormat="cb_<id>_<secret>",
            description="An API key, made with: callboard key create NAME --role viewer|operator|admin",
        )
        self.scheme_name = "bearer"

    async def __call__(self, request: Request) -> Caller:
        door = door_of(request)
        key = await door.keys.authenticate(_token(request))
        request.state.key = key.name
        require(key, self._role, queue=key.queue)
        return Caller(key, door)


#: Who may read; who may also create and control jobs and queues.
Viewer = Annotated[Caller, Depends(_Needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(_Needs(Role.OPERATOR))]


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("an API key is needed: Authorization: Bearer <key>")
    if len(token) > _LONGEST_TOKEN:
        raise Unauthorized("the API key is not valid")
    return token.strip()
