"""A finished job, for the demo's table."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished job and the door it came through.

    waited: from the time it was due to its start
    took:   from its start to its end
    """

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
        """Return the finished job that a job object of the HTTP API describes."""
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
        """Return whether the job succeeded."""
        return self.state == "succeeded"


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
