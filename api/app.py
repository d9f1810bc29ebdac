"""The ASGI app: routes, errors and middleware over a platform."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

import anyio.to_thread
import orjson
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from callboard.api.door import Door
from callboard.api.group_commit import GroupCommit
from callboard.api.http.error_responses import handle_errors
from callboard.api.http.long_poll import LongPolls
from callboard.api.http.middleware import Exchange
from callboard.api.job_commits import JobCommits
from callboard.api.key_cache import KeyMemory
from callboard.api.openapi import document
from callboard.api.query_filters import BulkBody, BulkCancelBody, CancelBody
from callboard.api.readiness import Readiness
from callboard.api.routes import (
    health_routes,
    job_control_routes,
    job_log_routes,
    job_routes,
    job_type_routes,
    job_why_routes,
    me_routes,
    queue_routes,
    webhook_routes,
    worker_routes,
)
from callboard.api.short_way import ShortWay
from callboard.jobs.model.request import JobRequest
from callboard.jobs.platform import Platform

DEFAULT_MAX_BODY: Final = 1024 * 1024
#: Connections to Postgres that no request's thread may take: four for those who write groups (two of jobs, two of
#: deliveries), two that are kept for enqueueing, and one for the catalogue, which is read while a thread holds another.
SERVERS_OWN: Final = 7
#: Threads that may use the database at once, when nothing else is said: what a pool of ten leaves.
DEFAULT_THREADS: Final = 10 - SERVERS_OWN


def create_app(
    platform: Platform,
    *,
    secret_key: str,
    max_body: int = DEFAULT_MAX_BODY,
    threads: int = DEFAULT_THREADS,
) -> FastAPI:
    """The app over a platform, which stays the caller's to close.

    max_body: bytes that a request's body may have. threads: must leave SERVERS_OWN of the platform's connections free.
    """
    intake = platform.intake(secret_key)
    door = Door(
        platform=platform,
        intake=intake,
        keys=KeyMemory(platform.auth),
        jobs=JobCommits(platform.enqueue, platform.jobs),
        deliveries=GroupCommit("deliveries", intake.receive_all),
        polls=LongPolls(platform.jobs, platform.waiting),
        readiness=Readiness(platform),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        yield
        await run_in_threadpool(door.jobs.close)
        await run_in_threadpool(door.deliveries.close)

    app = FastAPI(
        title="Callboard",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.door = door
    app.add_middleware(
        ShortWay,
        routers=[job_routes.router, webhook_routes.router],
        functions=[job_routes.create_job, webhook_routes.receive_webhook],
    )
    app.add_middleware(Exchange, max_body=max_body)
    handle_errors(app)
    # job_control first: /v1/jobs/cancel is not a job's id.
    for module in (
        job_control_routes, job_log_routes, job_why_routes, job_routes, queue_routes, job_type_routes, worker_routes,
        webhook_routes, me_routes, health_routes,
    ):  # fmt: skip
        app.include_router(module.router)
    app.state.openapi = cache(
        lambda: orjson.dumps(
            document(
                app,
                [
                    JobRequest,
                    job_routes.BatchRequest,
                    queue_routes.NewLimits,
                    BulkBody,
                    BulkCancelBody,
                    CancelBody,
                ],
            )
        )
    )
    return app
