"""A job that has ended, as the demo's table shows it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Ran:
    """waited: from due to started; took: from there to the end."""

    door: str
    name: str
    state: str
    attempts: int
    waited: timedelta
    took: timedelta
    last_error: str
    result: Any

    @classmethod
    def of(cls, door: str, job: dict[str, Any]) -> Self:
        """Read a job object of the HTTP API."""
        due, started, finished = (_instant(job[key]) for key in ("run_at", "started_at", "finished_at"))
        errors = job["errors"]
        return cls(
            door=door,
            name=job["name"],
            state=job["state"],
            attempts=job["attempt"],
            waited=started - due if due and started else timedelta(),
            took=finished - started if started and finished else timedelta(),
            last_error=f"{errors[-1]['class']}: {errors[-1]['message']}" if errors else "",
            result=job["result"],
        )

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
