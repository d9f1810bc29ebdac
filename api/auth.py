"""Who asks, and what they may: a Bearer key, one of three roles, perhaps confined to one queue."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.door import Api
from jobs.errors import NotFound, Unauthorized
from jobs.records import Job
from jobs.repositories.api_keys import ApiKey
from jobs.services.auth import Role, require

_LONGEST_TOKEN: Final = 200
_bearer: Final = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    bearerFormat="cb_<id>_<secret>",
    description="An API key, made with: callboard key create NAME --role viewer|operator|admin",
)


async def _caller(
    request: Request,
    door: Api,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> ApiKey:
    if given is None:
        raise Unauthorized("an API key is needed: Authorization: Bearer <key>")
    if len(given.credentials) > _LONGEST_TOKEN:
        raise Unauthorized("the API key is not valid")
    key = await run_in_threadpool(door.platform.auth.authenticate, given.credentials)
    request.state.key = key.name
    return key


def _at_least(role: Role) -> Callable[[ApiKey], Awaitable[ApiKey]]:
    async def check(key: Annotated[ApiKey, Depends(_caller)]) -> ApiKey:
        require(key, role, queue=key.queue)
        return key

    return check


#: The key of a caller who may read; who may also create and control jobs and queues.
Viewer = Annotated[ApiKey, Depends(_at_least(Role.VIEWER))]
Operator = Annotated[ApiKey, Depends(_at_least(Role.OPERATOR))]


def check_sees(key: ApiKey, job: Job) -> None:
    """Let pass a key that may know of this job; to others it is not there."""
    if not sees_queue(key, job.queue):
        raise NotFound(f"there is no job {job.id}")


def check_queue(key: ApiKey, queue: str) -> None:
    """Let pass a key that is not confined to another queue; raises Forbidden."""
    require(key, Role.VIEWER, queue=queue)


def sees_queue(key: ApiKey, queue: str) -> bool:
    return key.queue is None or key.queue == queue
