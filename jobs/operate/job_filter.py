"""The filter of jobs in lists and in verbs by filter."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from callboard.jobs.model.states import JobState
from callboard.jobs.operate.repository.searching import FOUND


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: every field that is set must match.

    search: a text that is found, in any case, in the arguments, the result, the errors, the progress note,
            the keys, the tags or the log lines.
    between: the lowest and the highest id. Callers of a search do not set it, see search_windows.py.
    """

    states: tuple[JobState, ...] = ()
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    between: tuple[UUID, UUID] | None = None

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """Return SQL conditions on the alias `j`, and their parameters."""
        clauses: list[str] = []
        parameters: dict[str, Any] = {}
        if self.states:
            # Literals instead of parameters: only then can the planner use the partial indexes.
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
        if self.between is not None:
            clauses.append("j.id BETWEEN :lowest AND :highest")
            parameters["lowest"], parameters["highest"] = self.between
        if self.search is not None:
            clauses.append(FOUND)
            parameters["search"] = f"%{_escaped(self.search)}%"
        return clauses, parameters


def _escaped(text_: str) -> str:
    return text_.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
