"""Jobs that tell of the process in which they run."""

import atexit
import multiprocessing
import os
import random
import signal
import sys
import uuid
from pathlib import Path

from uuid_utils.compat import uuid7

from callboard import job

FLAG = os.environ.get("FLAG_AT_EXIT")
if FLAG:
    atexit.register(Path(FLAG).touch)


@job
def tells_of_its_process() -> dict[str, object]:
    parent = multiprocessing.parent_process()
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "parent_process": parent.pid if parent else None,
        "group": os.getpgrp(),
        "folder": str(Path.cwd()),
        "variable": os.environ.get("GIVEN_TO_THE_WORKER"),
        "arguments": sys.argv[1:],
        "random": random.random(),
        "uuid": str(uuid.uuid4()),
        "uuid7": str(uuid7()),
        "sigterm_is_handled": callable(signal.getsignal(signal.SIGTERM)),
        "stdin": sys.stdin.read(),
    }
