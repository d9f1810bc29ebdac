"""Reads of jobs: one, many, pages, what is queued, how much there is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from callboard.jobs.model.states import JobState

#: The longest page of a list.
PAGE_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: every field that is set must fit. `search` looks into arguments, notes and errors."""

    states: tuple[JobState, ...] = ()
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """SQL conditions on `j` and their parameters."""
        clauses: list[str] = []
        parameters: dict[str, Any] = {}
        if self.states:
            # Written out, not bound: the planner can then use the partial indexes.
            clauses.append("j.state IN (" + ", ".join(f"'{JobState(state)}'" for state in self.states) + ")")
        for column in ("queue", "name"):
            value = getattr(self, column)
            if value is not None:
                clauses.append(f"j.{column} = :{column}")
                parameters[column] = value
        if self.tag is not None:
            clauses.append("j.tags @> ARRAY[:tag] AND j.tags <> '{}'::text[]")
            parameters["tag"] = self.tag
        if self.since is not None:
            clauses.append("j.enqueued_at >= :since")
            parameters["since"] = self.since
        if self.until is not None:
            clauses.append("j.enqueued_at < :until")
            parameters["until"] = self.until
        if self.search is not None:
            clauses.append(
                "(j.kwargs::text ILIKE :search OR j.args::text ILIKE :search OR j.errors::text ILIKE :search"
                " OR j.progress_note ILIKE :search)"
            )
            parameters["search"] = f"%{_escaped(self.search)}%"
        return clauses, parameters


def _escaped(text_: str) -> str:
    return text_.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
