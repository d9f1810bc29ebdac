"""The no-op job, for Callboard."""

from jobs import job


@job(queue="bench")
def noop() -> None:
    """Nothing."""
