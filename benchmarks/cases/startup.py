"""The time until commands answer and processes are ready, and the memory of each process at rest."""

import os
import signal
import subprocess
import sys
import time

import psutil

from benchmarks import draining
from benchmarks.arena import Arena
from benchmarks.harness import Case, Figures, Target
from benchmarks.processes import Running, cpu_seconds, proportional_mib, resident_mib
from benchmarks.serving import api, free_port

_COMMAND = (sys.executable, "-m", "callboard")
_TIMES = 5


def startup(arena: Arena) -> Figures:
    """Measure a short command, the start of a worker child, and `callboard up` on an existing data folder."""
    arena.reset()
    draining.fill(arena, "noop", 50)
    job = arena.sql("SELECT id FROM callboard.jobs LIMIT 1")[0].id
    figures = {
        "list_cpu_s": _command_cpu(arena, "job", "list"),
        "show_cpu_s": _command_cpu(arena, "job", "show", str(job)),
    }
    with arena.ready(processes=1):
        figures["child_s"], figures["child_cpu_s"] = _child(arena)
    _up(arena)
    return figures | {"up_s": _up(arena)}


def _command_cpu(arena: Arena, *words: str) -> float:
    """Return the least CPU seconds, user and system, of some runs of a command."""
    used = []
    for _ in range(arena.size(_TIMES, 1)):
        process = subprocess.Popen([*_COMMAND, *words], env=arena.env(), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"callboard {' '.join(words)} ended with {process.returncode}")
        used.append(usage.ru_utime + usage.ru_stime)
    return min(used)


def _child(arena: Arena) -> tuple[float, float]:
    """Kill the worker child. Return the seconds and CPU seconds that the next one takes until it is live."""
    (old,) = arena.platform.workers.live()
    os.kill(old.pid, signal.SIGKILL)

    def replaced() -> psutil.Process | None:
        new = [one for one in arena.platform.workers.live() if one.id != old.id]
        return psutil.Process(new[0].pid) if new else None

    process = arena.until(replaced)
    assert process is not None
    return time.time() - process.create_time(), cpu_seconds([process])


def _up(arena: Arena) -> float:
    """Return the seconds from the start of `callboard up` with embedded servers until it is ready."""
    environment = arena.env(port=free_port(), data_dir=arena.folder / "up")
    for url in ("CALLBOARD_DATABASE_URL", "CALLBOARD_REDIS_URL"):
        del environment[url]
    log = arena.folder / "up.log"
    log.unlink(missing_ok=True)
    began = time.monotonic()
    with arena.start("up", [*_COMMAND, "up", "--json"], environment) as process:
        arena.until(lambda: _is_ready(process))
        return time.monotonic() - began


def _is_ready(process: Running) -> bool:
    process.check()
    return '"url"' in process.log.read_text(errors="replace")


def at_rest(arena: Arena) -> Figures:
    """Measure the memory of each process with the jobs of examples/, in MiB.

    rss: what is resident in a process. A child has more than half of it in common with its fork server.
    pss: of pages that processes share, the part of each. worker_pss_mib is the sum over all of a worker.
    """
    arena.reset()
    examples = {"jobs": "examples.jobs,examples.receipts", "processes": 1}
    with arena.ready(**examples) as worker, api(arena):
        (child,) = arena.platform.workers.live()
        processes = {"child": child.pid, "supervisor": worker.pid}
        processes |= {role: arena.running(role)[0].pid for role in ("api", "scheduler")}
        figures = {}
        for role, pid in processes.items():
            figures[f"{role}_mib"] = resident_mib(psutil.Process(pid))
            figures[f"{role}_pss_mib"] = proportional_mib(psutil.Process(pid))
        figures["worker_pss_mib"] = sum(proportional_mib(process) for process in worker.tree())
    return figures


CASES = [
    Case(
        "startup",
        "CPU of short commands; until a child and `callboard up` are ready",
        {"callboard": startup},
        [
            Target("list_cpu_s", at_most=0.5),
            Target("show_cpu_s", at_most=0.5),
            Target("child_s", at_most=0.6),
            Target("up_s", at_most=3),
        ],
    ),
    Case(
        "memory-rest",
        "each process at rest, with the jobs of examples/",
        {"callboard": at_rest},
        [
            Target("child_mib", at_most=75),
            Target("child_pss_mib", at_most=75),
            Target("api_mib", at_most=90),
        ],
    ),
]
