"""A user's project with Callboard installed in a virtual environment of its own, both outside the repository.

The project's modules have the names of our own folders. Each has a marker: it tells whose module it is.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.stage import PATIENCE

ROOT = Path(__file__).parents[2]
#: What `make` and the tools leave in the tree.
GENERATED = (".*", "__pycache__", "*.egg-info", "build", "dist")
LOG_LINES = 40

PROJECT = {
    "api.py": 'MARKER = "the user\'s api"\n',
    "cli.py": 'MARKER = "the user\'s cli"\n',
    "config/__init__.py": 'MARKER = "the user\'s config"\n',
    "scheduler.py": 'MARKER = "the user\'s scheduler"\n',
    "workers/__init__.py": 'MARKER = "the user\'s workers"\n',
    "jobs.py": """
import api, cli, config, scheduler, workers
from callboard import current_job, job

MARKER = "the user's jobs"


@job
def markers(n: int) -> dict[str, object]:
    current_job().progress(0.5, "half")
    modules = (api, cli, config, scheduler, workers)
    return {"n": n, "jobs": MARKER} | {module.__name__: module.MARKER for module in modules}


@job
async def files() -> list[str]:
    return [module.__file__ for module in (api, cli, config, scheduler, workers)]
""",
    "send.py": """
import json

import jobs
from callboard import Client

with Client.from_env() as client:
    ids = [
        jobs.markers.enqueue(n=1).id,
        jobs.markers.with_options(priority=1).enqueue(2).id,
        client.enqueue("markers", {"n": 3}).id,
        jobs.files.enqueue().id,
    ]
    done = [client.wait(job_id, timeout=60) for job_id in ids]
print(json.dumps([[job.state, job.result] for job in done]))
""",
}


@dataclass(frozen=True)
class Builds:
    """What users install. `rebuilt` is the wheel that pip makes from the sdist."""

    wheel: Path
    sdist: Path
    rebuilt: Path


def build(folder: Path) -> Builds:
    """Build wheel and sdist of the tree into a folder, without a network.

    A copy of the tree is built: setuptools writes into the tree, and packs leftovers of earlier builds.
    """
    tree, dist, again = folder / "tree", folder / "dist", folder / "again"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*GENERATED))
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", dist, tree)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    shutil.rmtree(tree)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", again, sdist)
    (rebuilt,) = again.glob("*.whl")
    return Builds(wheel, sdist, rebuilt)


@dataclass(frozen=True)
class Guest:
    """A project folder, a virtual environment, and the environment variables of its processes."""

    project: Path
    venv: Path
    environment: dict[str, str]

    @classmethod
    def install(cls, wheel: Path, folder: Path, **settings: str) -> "Guest":
        """Make the project and its virtual environment, with these CALLBOARD_* settings and no others."""
        guest = cls(folder / "project", folder / "venv", _environment(settings))
        venv.create(guest.venv, symlinks=True)
        pip("--python", guest.venv, "install", "--no-deps", wheel)
        # The dependencies are those of this run. Python reads no .pth files there, so it does not find the
        # editable install of the repository.
        (guest.site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        for name, text in PROJECT.items():
            path = guest.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return guest

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return next(self.venv.glob("lib/python*/site-packages"))

    def run(self, *command: str | Path, folder: Path | None = None) -> str:
        """Return what a command prints in the project, or in another folder; it must succeed."""
        return run(*command, cwd=folder or self.project, env=self.environment)

    def callboard(self, *command: str) -> Any:
        """Return the JSON that a command of `callboard` prints; it must succeed."""
        return json.loads(self.run(self.venv / "bin" / "callboard", *command, "--json"))

    @contextmanager
    def running(self, role: str) -> Iterator[Path]:
        """Run one process of the platform and yield its log. SIGTERM must end it with exit code 0."""
        log = self.project.parent / f"{role}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [self.venv / "bin" / "callboard", "run", role],
                cwd=self.project,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield log
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(PATIENCE)
            # pytest shows it when the test has failed
            print(f"--- {role}", *log.read_text().splitlines()[-LOG_LINES:], sep="\n")


def run(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, patience: float = 120.0
) -> str:
    """Return what a command prints; it must succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=patience
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def pip(*arguments: str | Path) -> None:
    """Run pip without an index."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}
    run(sys.executable, "-m", "pip", *arguments, env=environment)


def _environment(settings: dict[str, str]) -> dict[str, str]:
    ours = {f"CALLBOARD_{key}".upper(): value for key, value in settings.items()}
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "PYTHON"))
    } | ours
