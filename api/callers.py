"""Authenticate a request by its Bearer key, and check the key's role and queue."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from callboard.api.services import Services, services_of
from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.api_keys import Role, require
from callboard.jobs.errors import Forbidden, NotFound, Unauthorized
from callboard.jobs.model.job import Job
from callboard.jobs.platform import Platform

_MAX_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: its API key, and the services of the app."""

    key: ApiKey
    services: Services

    @property
    def platform(self) -> Platform:
        """Return the services that routes call."""
        return self.services.platform

    def sees(self, queue: str) -> bool:
        """Return whether the key may see a queue and its jobs."""
        return self.key.queue is None or self.key.queue == queue

    def check_sees(self, job: Job) -> None:
        """Raise NotFound if the key may not see this job, as if the job did not exist."""
        if not self.sees(job.queue):
            raise NotFound(f"there is no job {job.id}")

    def check_queue(self, queue: str) -> None:
        """Raise Forbidden if the key is restricted to another queue."""
        require(self.key, Role.VIEWER, queue=queue)


class _RequireRole(SecurityBase):
    """A dependency that requires a key of at least this role, and returns the Caller.

    Routes list it before the body, so that the key is checked before the body is read.
    """

    def __init__(self, role: Role) -> None:
        self._role = role
        self.model = HTTPBearer(
            bearerFormat="cb_<id>_<secret>",
            description="An API key, created with: callboard key create NAME --role viewer|operator|admin",
        )
        self.scheme_name = "bearer"

    async def __call__(self, request: Request) -> Caller:
        services = services_of(request)
        key = await services.keys.authenticate(_token(request))
        request.state.key = key.name
        require(key, self._role, queue=key.queue)
        return Caller(key, services)


#: A caller who may read.
Viewer = Annotated[Caller, Depends(_RequireRole(Role.VIEWER))]
#: A caller who may also create and control jobs, and control queues.
Operator = Annotated[Caller, Depends(_RequireRole(Role.OPERATOR))]


class _RequireMetricsReader(SecurityBase):
    """A dependency that requires a viewer's key for all queues, unless metrics are open to everybody."""

    def __init__(self) -> None:
        self._viewer = _RequireRole(Role.VIEWER)
        self.model, self.scheme_name = self._viewer.model, self._viewer.scheme_name

    async def __call__(self, request: Request) -> None:
        if not services_of(request).metrics_open:
            caller = await self._viewer(request)
            if caller.key.queue is not None:
                raise Forbidden("metrics show all queues, and this key may use only one")


#: For the route of the metrics, which has no use for its caller.
metrics_reader: Final = Depends(_RequireMetricsReader())


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("an API key is required: Authorization: Bearer <key>")
    if len(token) > _MAX_TOKEN:
        raise Unauthorized("the API key is not valid")
    return token.strip()
