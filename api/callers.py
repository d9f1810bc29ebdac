"""Authenticate a request by its Bearer key, and check what the key may do and see."""

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
from callboard.jobs.model.request import JobRequest
from callboard.jobs.platform import Platform

#: The rest of a longer token is not read. It is no valid token in any case.
_LONGEST_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: its API key, and the services of the app."""

    key: ApiKey
    services: Services

    @property
    def platform(self) -> Platform:
        """Return the services that routes call."""
        return self.services.platform

    def check_sees(self, job: Job) -> None:
        """Raise NotFound if the key may not see this job, as if the job did not exist."""
        if not self.key.sees_job(job.name, job.queue):
            raise NotFound(f"there is no job {job.id}")

    def check_queue(self, queue: str) -> None:
        """Raise Forbidden if the key may not see and control this whole queue."""
        if not self.key.sees_queue(queue):
            raise Forbidden(f"the key {self.key.name!r} may only use {self.key.confinement}")

    def check_unrestricted(self, what: str) -> None:
        """Raise Forbidden if the key is restricted. `what` belongs to all queues and jobs, in plural."""
        if self.key.confined:
            raise Forbidden(
                f"{what} belong to all queues; the key {self.key.name!r} may only use {self.key.confinement}"
            )

    def confine(self, request: JobRequest, where: str = "") -> JobRequest:
        """Return the request as the key may send it: in the key's queue. Raises Forbidden if it may not.

        The error is the same for a job type of another queue as for one that does not exist. So this comes
        before the check of the arguments, whose errors describe the job type.

        where: the beginning of the error's message, such as "jobs[3]: ".
        """
        key = self.key
        if not key.confined:
            return request
        queue = request.queue if key.queue is None else key.queue
        if not self._may_enqueue(request.name) or request.queue not in (None, queue):
            raise Forbidden(
                f"{where}the key {key.name!r} may only use {key.confinement};"
                " GET /v1/job-types lists the jobs that it may enqueue"
            )
        if request.message_options:
            raise Forbidden(
                f"{where}message_options can enqueue other jobs, and the key {key.name!r} may only use"
                f" {key.confinement}"
            )
        return request.model_copy(update={"queue": queue})

    def confines_quickly(self, request: JobRequest) -> bool:
        """Whether `confine` needs no query."""
        return not self.key.confined or self._may_enqueue_cached(request.name)

    def _may_enqueue(self, name: str) -> bool:
        # A refusal costs one query, whether the job type exists or not: its duration must not tell that.
        if self._may_enqueue_cached(name):
            return True
        return any(self.key.may_enqueue(one.type) for one in self.platform.catalogue.find_stored(name))

    def _may_enqueue_cached(self, name: str) -> bool:
        return any(self.key.may_enqueue(one.type) for one in self.platform.catalogue.find_cached(name))


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
        state = request.scope["state"]
        key = await services.keys.authenticate(_token(request), state["client"])
        state["key"] = key.name
        require(key, self._role)
        return Caller(key, services)


#: A caller who may read.
Viewer = Annotated[Caller, Depends(_RequireRole(Role.VIEWER))]
#: A caller who may also create and control jobs, and control queues.
Operator = Annotated[Caller, Depends(_RequireRole(Role.OPERATOR))]


class _RequireMetricsReader(SecurityBase):
    """A dependency that requires a viewer's unrestricted key, unless metrics are open to everybody."""

    def __init__(self) -> None:
        self._viewer = _RequireRole(Role.VIEWER)
        self.model, self.scheme_name = self._viewer.model, self._viewer.scheme_name

    async def __call__(self, request: Request) -> None:
        if not services_of(request).metrics_open:
            caller = await self._viewer(request)
            caller.check_unrestricted("metrics")


#: For the route of the metrics, which has no use for its caller.
metrics_reader: Final = Depends(_RequireMetricsReader())


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        # There is no key, so this does not count as a wrong one.
        raise Unauthorized("an API key is required: Authorization: Bearer <key>")
    return token.strip()[:_LONGEST_TOKEN]
