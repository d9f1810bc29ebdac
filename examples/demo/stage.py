"""The platform that the demo runs on: `callboard up` in a child process, and a user's commands beside it."""

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from callboard.config.settings import load_settings

CHECKOUT: Final = Path(__file__).parents[2]
_CALLBOARD: Final = (sys.executable, "-m", "callboard")
_COMMAND_SECONDS: Final = 60
_STOP_SECONDS: Final = 60
_LOG_LINES: Final = 15


class DemoFailed(Exception):
    """Something did not go as it should; the message says what."""


class Stage:
    """A running platform.

    url:        where its api answers.
    borrowed:   whether its database is somebody's, and outlives the demo.
    last_words: what it had logged when something failed.
    """

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.last_words: list[str] = []
        settings = load_settings()
        self.borrowed = settings.database_url is not None
        self._log = folder / "up.log"
        ours = {
            "CALLBOARD_DATA_DIR": str(folder / "data"),
            "CALLBOARD_HOST": "127.0.0.1",
            "CALLBOARD_PORT": "0",
            "CALLBOARD_JOBS": "examples.jobs",
            "CALLBOARD_QUEUES": "default,hooks,reports,files,numbers",
            "CALLBOARD_LOG_FORMAT": "human",
        }
        if self.borrowed and settings.secret_key is None:
            ours["CALLBOARD_SECRET_KEY"] = secrets.token_urlsafe(32)
        if settings.source("processes") == "default":
            ours["CALLBOARD_PROCESSES"] = str(min(2, os.cpu_count() or 1))
        # for this process too: it is a client like any other
        os.environ.update(ours)

    @contextmanager
    def up(self) -> Iterator[None]:
        """Run `callboard up` until the block ends."""
        with (
            self._log.open("wb") as log,
            subprocess.Popen(  # noqa: S603 - our own program
                [*_CALLBOARD, "up", "--json"],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the demo, which then stops its child in order
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread has been started yet
            ) as child,
        ):
            try:
                self.url = self._ready(child)
                yield
            except BaseException:
                # before it says no more than how it stops
                self.last_words = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
                raise
            finally:
                _stop(child)

    def _ready(self, child: "subprocess.Popen[bytes]") -> str:
        """The address that `up --json` tells once the api answers and a worker is there."""
        told = b""
        while child.stdout is not None and (line := child.stdout.readline()):
            told += line
            with suppress(json.JSONDecodeError):
                return str(json.loads(told)["url"])
        raise DemoFailed(f"'callboard up' ended with {child.wait()}")

    def callboard(self, *words: str) -> dict[str, Any]:
        """Run a command as a user does and return the JSON it prints; DemoFailed when it exits otherwise than with 0."""
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                [*_CALLBOARD, *words, "--json"],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(
                f"'callboard {' '.join(words)}' was not done after {_COMMAND_SECONDS} s"
            ) from None
        if done.returncode:
            raise DemoFailed(
                f"'callboard {' '.join(words)}' exited with {done.returncode}: {done.stderr.strip()}"
            )
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        return answer


def _stop(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the demo dies, however it dies (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
