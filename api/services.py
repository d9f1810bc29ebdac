"""The objects that every route uses. Each app makes them once."""

from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from callboard.api.key_cache import KeyCache
from callboard.api.readiness import ReadinessCheck
from callboard.jobs.operate.async_waiting import AsyncWaiting
from callboard.jobs.platform import Platform
from callboard.jobs.webhooks.intake import Intake


@dataclass(frozen=True, slots=True)
class Services:
    """The services of the platform, and the objects that only HTTP needs."""

    platform: Platform
    intake: Intake
    keys: KeyCache
    polls: AsyncWaiting
    readiness: ReadinessCheck
    #: Whether GET /metrics needs no key.
    metrics_open: bool = False
    #: One scrape is rendered at a time, in a thread that no other route waits for.
    scrapes: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    return services_of(request)


#: For routes that need no key; the others have a Caller.
AppServices = Annotated[Services, Depends(_services)]
