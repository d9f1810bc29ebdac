"""The platform of the demo: `callboard up` in a child process, and commands as a user runs them."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).parents[2]
_CALLBOARD: Final = (sys.executable, "-m", "callboard")
_COMMAND_SECONDS: Final = 60
_STOP_SECONDS: Final = 60
_LOG_LINES: Final = 15


class DemoFailed(Exception):
    """The demo did not go as expected; the message says how."""


class Stage:
    """A running platform.

    It runs in a folder of its own, on servers of its own. Settings of the shell and of a callboard.toml are
    left out: with them, the demo could write to the database of a real platform.

    url:      the URL of its api
    last_log: the last lines of its log when a step failed
    """

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.last_log: list[str] = []
        self._log = folder / "up.log"
        for name in [name for name in os.environ if name.startswith("CALLBOARD_")]:
            del os.environ[name]
        # This process is a client of the platform, so it needs the settings and the folder too.
        os.chdir(folder)
        os.environ |= {
            "CALLBOARD_DATA_DIR": str(folder / "data"),
            "CALLBOARD_HOST": "127.0.0.1",
            "CALLBOARD_PORT": "0",
            "CALLBOARD_JOBS": "examples.jobs",
            "CALLBOARD_QUEUES": "default,hooks,reports,files,numbers",
            "CALLBOARD_LOG_FORMAT": "human",
            "CALLBOARD_PROCESSES": str(min(2, os.cpu_count() or 1)),
            # The folder does not have `examples`.
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH")))),
        }

    @contextmanager
    def up(self) -> Iterator[None]:
        """Run `callboard up` until the block ends."""
        with (
            self._log.open("wb") as log,
            subprocess.Popen(  # noqa: S603 - our own program
                [*_CALLBOARD, "up", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C reaches only the demo, which then stops its child cleanly
                start_new_session=True,
                preexec_fn=_terminate_with_parent,  # noqa: PLW1509 - no thread has been started yet
            ) as child,
        ):
            try:
                self.url = self._ready(child)
                yield
            except BaseException:
                # read the log before the stop adds its own lines
                self.last_log = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
                raise
            finally:
                _stop(child)

    def _ready(self, child: "subprocess.Popen[bytes]") -> str:
        """Return the URL that `up --json` prints when the api answers and a worker is live."""
        output = b""
        while child.stdout is not None and (line := child.stdout.readline()):
            output += line
            with suppress(json.JSONDecodeError):
                return str(json.loads(output)["url"])
        raise DemoFailed(f"'callboard up' ended with {child.wait()}")

    def callboard(self, *words: str) -> dict[str, Any]:
        """Run a command as a user does and return its JSON output; raise DemoFailed if it fails."""
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                [*_CALLBOARD, *words, "--json"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(
                f"'callboard {' '.join(words)}' did not finish within {_COMMAND_SECONDS} s"
            ) from None
        if done.returncode:
            raise DemoFailed(
                f"'callboard {' '.join(words)}' exited with {done.returncode}: {done.stderr.strip()}"
            )
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        return answer


def _stop(child: "subprocess.Popen[bytes]") -> None:
    # Another Ctrl-C makes the stop faster. It does not leave processes behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: child.terminate())
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)


def _terminate_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when the demo dies, even by SIGKILL (Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
