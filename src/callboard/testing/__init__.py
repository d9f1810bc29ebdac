"""Tools for tests of one's own jobs. With pytest, `enqueued` and `drain` are fixtures.

Each name is loaded when it is first used: pytest imports this package in every project that has Callboard.
"""

# Type checkers take this name as true. It is not imported from `typing`, because that import is slow.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.testing.draining import Drain
    from callboard.testing.job_run import run
    from callboard.testing.needs_servers import NeedsServers
    from callboard.testing.outcome_counts import Drained
    from callboard.testing.recording import Enqueued
    from callboard.testing.run_result import Report, RunOutcome, RunResult

__all__ = [
    "Drain",
    "Drained",
    "Enqueued",
    "NeedsServers",
    "Report",
    "RunOutcome",
    "RunResult",
    "ServerUrls",
    "run",
]

_HOMES = {
    "Drain": "testing.draining",
    "Drained": "testing.outcome_counts",
    "Enqueued": "testing.recording",
    "NeedsServers": "testing.needs_servers",
    "Report": "testing.run_result",
    "RunOutcome": "testing.run_result",
    "RunResult": "testing.run_result",
    "ServerUrls": "config.embedded",
    "run": "testing.job_run",
}


if not TYPE_CHECKING:  # or type checkers would accept every name

    def __getattr__(name: str) -> object:
        from importlib import import_module

        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'callboard.testing' has no attribute {name!r}")
        return getattr(import_module(f"callboard.{home}"), name)
