"""The ASGI app: routes, errors and middleware over a platform."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

import anyio.to_thread
import orjson
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from callboard.api.http.client_address import TrustedProxies
from callboard.api.http.error_responses import handle_errors
from callboard.api.http.middleware import RequestMiddleware
from callboard.api.key_cache import KeyCache
from callboard.api.openapi import document
from callboard.api.query_filters import BulkBody, BulkCancelBody, CancelBody
from callboard.api.readiness import ReadinessCheck
from callboard.api.routes import (
    health_routes,
    job_control_routes,
    job_create_routes,
    job_log_routes,
    job_routes,
    job_type_routes,
    job_why_routes,
    me_routes,
    queue_routes,
    webhook_delivery_routes,
    webhook_routes,
    worker_routes,
)
from callboard.api.services import Services
from callboard.jobs.model.request import JobRequest
from callboard.jobs.operate.async_waiting import AsyncWaiting
from callboard.jobs.platform import Platform

DEFAULT_MAX_BODY: Final = 1024 * 1024
#: Connections to Postgres that no request's thread may use: two that are kept for enqueueing, two for
#: deliveries, one for looking up webhook sources, one for a batch of jobs with unique keys, one for the
#: catalogue, which is read while a thread holds another, and one for the check of readiness.
SERVERS_OWN: Final = 8
#: How many threads may use the database by default: the rest of a pool of ten connections.
DEFAULT_THREADS: Final = 10 - SERVERS_OWN
#: The bodies that routes read without FastAPI.
_BODIES: Final[list[type[BaseModel]]] = [
    JobRequest,
    job_create_routes.BatchRequest,
    queue_routes.NewLimits,
    BulkBody,
    BulkCancelBody,
    CancelBody,
]


def create_app(
    platform: Platform,
    *,
    secret_key: str,
    max_body: int = DEFAULT_MAX_BODY,
    threads: int = DEFAULT_THREADS,
    trusted_proxies: Sequence[str] = (),
    metrics_open: bool = False,
) -> FastAPI:
    """Make the app. The caller closes the platform.

    max_body:        the longest body of a request, in bytes.
    threads:         how many threads may use the database; SERVERS_OWN of the platform's connections must
                     stay free.
    trusted_proxies: the addresses and networks whose forwarding headers are believed.
    metrics_open:    whether GET /metrics needs no key.
    """
    intake, auth_failures = platform.intake(secret_key), platform.auth_failures()
    services = Services(
        platform=platform,
        intake=intake,
        keys=KeyCache(platform.auth, auth_failures),
        polls=AsyncWaiting(platform.jobs, platform.waiting, run_in_threadpool),
        readiness=ReadinessCheck(platform),
        metrics_open=metrics_open,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        checking = asyncio.create_task(services.readiness.keep_current())
        yield
        checking.cancel()
        await run_in_threadpool(intake.close)
        auth_failures.close()

    app = FastAPI(
        title="Callboard",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        # Its check whether it is configured takes as long as the lookup of a key.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    app.add_middleware(RequestMiddleware, max_body=max_body, proxies=TrustedProxies(trusted_proxies))
    handle_errors(app)
    # The busiest routes come first and are routes of the app itself: an included router costs each request as
    # much as a small endpoint does.
    app.router.routes += [*job_create_routes.router.routes, *webhook_routes.router.routes]
    # Load balancers ask for health often, so those routes come next.
    for module in (
        health_routes, job_control_routes, job_log_routes, job_why_routes, job_routes, queue_routes,
        job_type_routes, worker_routes, webhook_delivery_routes, me_routes,
    ):  # fmt: skip
        app.include_router(module.router)
    app.state.openapi = cache(lambda: orjson.dumps(document(app, _BODIES)))
    return app
