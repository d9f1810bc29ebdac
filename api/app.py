"""The ASGI app: routes, errors and middleware over a platform."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

import anyio.to_thread
import orjson
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from api.door import Door
from api.errors import handle_errors
from api.filters import BulkBody, BulkCancelBody, CancelBody
from api.group_commit import GroupCommit
from api.job_commits import JobCommits
from api.key_memory import KeyMemory
from api.long_poll import LongPolls
from api.middleware import Exchange
from api.openapi import document
from api.readiness import Readiness
from api.routes import catalogue, health, job_control, job_logs, job_why, jobs, me, queues, webhooks, workers
from api.short_way import ShortWay
from jobs.platform import Platform
from jobs.requests import JobRequest

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
        routers=[jobs.router, webhooks.router],
        functions=[jobs.create_job, webhooks.receive_webhook],
    )
    app.add_middleware(Exchange, max_body=max_body)
    handle_errors(app)
    # job_control first: /v1/jobs/cancel is not a job's id.
    for module in (job_control, job_logs, job_why, jobs, queues, catalogue, workers, webhooks, me, health):
        app.include_router(module.router)
    app.state.openapi = cache(
        lambda: orjson.dumps(
            document(
                app, [JobRequest, jobs.BatchRequest, queues.NewLimits, BulkBody, BulkCancelBody, CancelBody]
            )
        )
    )
    return app
