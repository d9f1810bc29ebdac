"""Jobs that do to their worker what users' code does; copied into the working directory of the worker.

Each case names how its job must end: its state and the class of its error.
"""

from . import errors, event_loop, exits, logs, outcomes, process, results

__all__ = ["errors", "event_loop", "exits", "logs", "outcomes", "process", "results"]
