"""The jobs of the application whose database `release_0_1.sql` is, as they are on this version."""

from typing import Any

from callboard import job


@job
def report(account: int, month: str = "2026-10") -> dict[str, Any]:
    return {"account": account, "month": month}


@job
def varied() -> str:
    return "at last"


@job
def snoozes() -> str:
    return "awake"


@job
def endless() -> str:
    return "ended"


@job(queue="mail", limit_by="account")
def mail(account: int) -> int:
    return account


@job(queue="hooks")
def on_push(event: str, delivery_id: str, payload: dict[str, Any]) -> str:
    return f"{event} to {payload['ref']}"
