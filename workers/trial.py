"""Imports the modules of CALLBOARD_JOBS as a worker does, and prints what came of it as JSON.

`callboard doctor` runs this in a process of its own, because modules may do anything. No server is used.
"""

import os
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

import orjson

from callboard.config.module_folders import module_folders
from callboard.config.settings import load_settings
from callboard.jobs.errors import CallboardError
from callboard.jobs.platform import Platform
from callboard.workers.boot_report import BootReport
from callboard.workers.child_parts import make_broker
from callboard.workers.execute.adoption import not_honoured
from callboard.workers.job_imports import check_jobs, import_jobs


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of the import.

    problem:      why no worker can start with these modules; empty when one can.
    jobs:         how many jobs they define.
    not_honoured: what they ask for and a worker does not do, each with the reason.
    """

    problem: str = ""
    jobs: int = 0
    not_honoured: tuple[tuple[str, str], ...] = ()


def tried() -> Trial:
    """Import the modules; return what came of it."""
    sys.path.extend(module_folders(Path.cwd()))
    nowhere = Platform("postgresql+psycopg://127.0.0.1:1/none", "redis://127.0.0.1:1/0", lazy=True)
    with closing(nowhere) as platform:
        try:
            settings = load_settings()
            broker, adoption = make_broker(platform, Event(), settings)
            import_jobs(settings.jobs, BootReport())
            adoption.settle()
            definitions = broker.definitions()
            check_jobs(definitions, settings.jobs)
        except CallboardError as error:
            return Trial(error.message)
        return Trial("", len(definitions), tuple(not_honoured(broker)))


def main() -> None:
    """Print the trial to stdout. What the modules print goes to stderr."""
    answer = os.dup(1)
    os.dup2(2, 1)
    os.write(answer, orjson.dumps(asdict(tried())))


if __name__ == "__main__":
    main()
