"""A user's program. Type checkers must accept all of it; tests/unit/test_typing.py runs them."""

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

import dramatiq
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from callboard import (
    AsyncClient,
    CallboardError,
    Cancel,
    Client,
    Fail,
    Job,
    JobState,
    Retry,
    RetryPolicy,
    Snooze,
    Unique,
    current_job,
    job,
)
from callboard.dramatiq import CallboardBroker


@job
def greet(name: str, *, polite: bool = True) -> str:
    return f"Good day, {name}" if polite else name


@job(
    name="reports.build",
    queue="reports",
    retry=RetryPolicy(max_attempts=5, retry_on=(OSError,), never_on=(ValueError,)),
    timeout="10m",
    hard_timeout=timedelta(minutes=20),
    priority=3,
    unique=Unique(by=("account_id",)),
    limit_by="account_id",
)
def build_report(account_id: int, month: str) -> dict[str, int]:
    task = current_job()
    task.progress(0.5, "rendering")
    if month == "later":
        raise Snooze("1h")
    if month == "again":
        raise Retry(delay=timedelta(minutes=1))
    if month == "never":
        raise Cancel("no such month")
    if month == "bad":
        raise Fail("no such month")
    return {"pages": account_id}


@job(queue="io")
async def fetch(url: str, retries: int = 3) -> bytes:
    return url.encode() * retries


class Storage:
    @staticmethod
    @job
    def sweep(folder: str) -> int:
        return len(folder)


def calls() -> None:
    assert_type(greet("Ada"), str)
    assert_type(greet(name="Ada", polite=False), str)
    assert_type(build_report(7, month="2026-10"), dict[str, int])
    assert_type(Storage.sweep("/tmp"), int)


async def coroutines() -> None:
    assert_type(await fetch("https://example.org"), bytes)
    pending: Coroutine[Any, Any, bytes] = fetch("https://example.org", retries=1)
    assert_type(await pending, bytes)


def enqueues() -> None:
    assert_type(greet.enqueue("Ada"), Job)
    assert_type(greet.enqueue("Ada", polite=False), Job)
    assert_type(build_report.enqueue(account_id=7, month="2026-10"), Job)
    assert_type(fetch.enqueue("https://example.org"), Job)
    assert_type(Storage.sweep.enqueue("/tmp"), Job)
    assert_type(build_report.with_options(delay="1h").enqueue(7, month="2026-10"), Job)
    later = build_report.with_options(
        run_at=datetime.now(UTC),
        expires_at="2027-01-01T00:00:00Z",
        queue="slow",
        priority=9,
        tags=["monthly"],
        max_attempts=3,
        min_backoff="1s",
        max_backoff=timedelta(hours=1),
        timeout="5m",
        hard_timeout="6m",
        unique_key="r-7",
        unique_for="1d",
        on_conflict="replace",
        limit_key="tenant-7",
        unchecked=False,
    )
    assert_type(later.enqueue(7, "2026-10"), Job)
    assert_type(build_report.enqueue_with({"account_id": 7, "month": "2026-10"}, delay="1h", priority=2), Job)
    assert_type(build_report.enqueue_with({"month": "2026-10"}, args=[7]), Job)
    build_report.send(7, month="2026-10")
    greet.send("Ada", polite=False)


def clients(session: Session) -> None:
    with Client(database_url="postgresql:///app", redis_url="redis://localhost", schema="shop") as client:
        assert_type(
            client.enqueue(build_report, {"account_id": 7, "month": "2026-10"}, connection=session), Job
        )
        assert_type(client.enqueue_many(greet, [{"name": "Ada"}], connection=session), list[UUID])
        build_report.enqueue_with({"account_id": 7, "month": "2026-10"}, connection=session)
        build_report.with_options(connection=session, delay="1h").enqueue(7, "2026-10")
    with Client.from_env() as client:
        enqueued = client.enqueue(
            "reports.build", {"account_id": 7, "month": "2026-10"}, delay="1h", tags=("m",)
        )
        assert_type(enqueued, Job)
        assert_type(enqueued.id, UUID)
        assert_type(client.enqueue_many("greet", [{"name": "Ada"}, {"name": "Bo"}], queue="mail"), list[UUID])
        assert_type(client.get(enqueued.id), Job)
        assert_type(client.wait(str(enqueued.id), timeout=30), Job)
        assert_type(client.get(enqueued.id).state is JobState.SUCCEEDED, bool)
        try:
            client.cancel(enqueued.id, force=True)
        except CallboardError as error:
            assert_type(error.code, str)


async def async_clients(session: AsyncSession) -> None:
    async with AsyncClient.from_env() as client:
        enqueued = await client.enqueue(greet, {"name": "Ada"}, delay="1h", connection=session)
        assert_type(enqueued, Job)
        assert_type(await client.enqueue_many("greet", [{"name": "Ada"}], connection=session), list[UUID])
        assert_type(await client.wait(enqueued.id, timeout="30s"), Job)
        assert_type(await client.get(enqueued.id), Job)
        assert_type((await client.bulk("cancel", state="queued")).changed, int)


def brokers() -> None:
    dramatiq.set_broker(CallboardBroker())
