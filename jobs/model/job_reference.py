"""How a caller names a job: by its name, or by the job itself."""

from typing import Protocol


class NamedJob(Protocol):
    """A job or an actor: what `@job` or `@dramatiq.actor` returns."""

    @property
    def actor_name(self) -> str: ...
