"""A user's mistakes. Type checkers must report each line marked `# error`, and no other line."""

from typing import assert_type

from sqlalchemy.orm import Session

import callboard
from callboard import AsyncClient, Client, Job, RetryPolicy, Unique, job


@job
def greet(name: str, *, polite: bool = True) -> str:
    return f"Good day, {name}" if polite else name


@job(queue="reports", timeout="10m")
def build_report(account_id: int, month: str) -> dict[str, int]:
    return {"pages": account_id}


@job
async def fetch(url: str) -> bytes:
    return url.encode()


def calls() -> None:
    greet()  # error
    greet(7)  # error
    greet("Ada", False)  # error
    greet("Ada", polit=False)  # error
    build_report("7", month="2026-10")  # error
    number: int = greet("Ada")  # error
    print(number)


async def coroutines() -> None:
    content: bytes = fetch("https://example.org")  # error
    print(content)
    print(await fetch(7))  # error
    print(await fetch())  # error


def enqueues() -> None:
    build_report.enqueue()  # error
    build_report.enqueue(7)  # error
    build_report.enqueue("7", "2026-10")  # error
    build_report.enqueue(7, mnth="2026-10")  # error
    build_report.enqueue(7, "2026-10", delay="1h")  # error
    build_report.enqueue(7, "2026-10", 3)  # error
    fetch.enqueue(url=7)  # error
    pages: dict[str, int] = build_report.enqueue(7, "2026-10")  # error
    print(pages)
    print(build_report.enqueue(7, "2026-10").identity)  # error


def sends() -> None:
    build_report.send()  # error
    build_report.send(7)  # error
    build_report.send("7", month="2026-10")  # error
    build_report.send(7, mnth="2026-10")  # error
    fetch.send(url=7)  # error


def options() -> None:
    build_report.with_options(delay="1h").enqueue()  # error
    build_report.with_options(delay="1h").enqueue(7)  # error
    build_report.with_options(delay="1h").enqueue("7", month="2026-10")  # error
    build_report.with_options(delay="1h").enqueue(7, mnth="2026-10")  # error
    build_report.with_options(dealy="1h").enqueue(7, "2026-10")  # error
    build_report.with_options(delay=3600).enqueue(7, "2026-10")  # error
    build_report.with_options(priority="high").enqueue(7, "2026-10")  # error
    build_report.with_options(on_conflict="ignore").enqueue(7, "2026-10")  # error
    build_report.with_options(args=[7]).enqueue(7, "2026-10")  # error
    build_report.with_options("1h").enqueue(7, "2026-10")  # error
    build_report.enqueue_with({"account_id": 7, "month": "2026-10"}, dealy="1h")  # error
    build_report.enqueue_with({"account_id": 7, "month": "2026-10"}, max_attempts="3")  # error
    assert_type(build_report.with_options(delay="1h").enqueue(7, "2026-10"), Job)


def clients(client: Client) -> None:
    client.enqueue("greet", {"name": "Ada"}, dealy="1h")  # error
    client.enqueue("greet", {"name": "Ada"}, delay=3600)  # error
    client.enqueue("greet", {"name": "Ada"}, tags=7)  # error
    client.enqueue("greet", ["Ada"])  # error
    client.enqueue("greet", {"name": "Ada"}, connection="postgresql:///app")  # error
    client.enqueue_many("greet", {"name": "Ada"})  # error
    client.enqueue_many("greet", [{"name": "Ada"}], prority=2)  # error
    client.wait(7)  # error
    client.bulk("pause", state="queued")  # error


async def async_clients(client: AsyncClient, session: Session) -> None:
    await client.enqueue("greet", {"name": "Ada"}, dealy="1h")  # error
    await client.enqueue("greet", {"name": "Ada"}, connection=session)  # error
    await client.wait(7)  # error
    Client(database_url="postgresql:///app")  # error
    greet.enqueue_with({"name": "Ada"}, connection="postgresql:///app")  # error


def policies() -> None:
    RetryPolicy(attempts=3)  # error
    RetryPolicy(max_attempts="3")  # error
    RetryPolicy(wait=30)  # error
    RetryPolicy(retry_on=OSError)  # error
    RetryPolicy(never_on=[ValueError])  # error
    RetryPolicy().max_attempts = 3  # error
    Unique(by="account_id", fro="1h")  # error


def definitions() -> None:
    job(queu="reports")  # error
    job(retry=5)  # error
    job(priority="high")  # error
    job("reports")  # error
    job(unique="account_id")  # error


def names() -> None:
    print(callboard.clientt)  # error
    callboard.Client.from_environment()  # error
