"""`python -m benchmarks.siege`: what attacks do to the memory and to `GET /healthz` of one API process.

The API may have 1,024 open files. Each attack meets a new process, from a process of its own. A probe opens a
connection for each `GET /healthz`, as a load balancer does, before, during and after the attack. Everything
stays on 127.0.0.1.
"""

import argparse
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import psutil

from benchmarks.arena import ROOT, SECRET_KEY, Arena
from benchmarks.processes import resident_mib
from benchmarks.serving import free_port
from benchmarks.siege_attacks import KNOWN_SOURCE, MAX_SECONDS, Attack, attacks
from callboard.config.logging import configure
from callboard.jobs.webhooks.intake import source_request

_OPEN_FILES: Final = 1_024
#: How long the calm before and after an attack is measured. Seconds.
_CALM: Final = 5.0
#: After the attack, the API gets this time before it is measured again. Seconds.
_REST: Final = 3.0
_EVERY: Final = 0.05
_PROBE_TIMEOUT: Final = 2.0
_START_TIMEOUT: Final = 60.0
_COLUMNS: Final = (
    "attack", "the server's answers", "RSS MiB", "healthz p50 ms", "healthz max ms", "healthz failures",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phase:
    """What was measured in one phase. rss_mib: the largest; p50_ms, max_ms: None if every probe failed."""

    rss_mib: float
    p50_ms: float | None
    max_ms: float | None
    probes: int
    failures: int


@dataclass(frozen=True, slots=True)
class Damage:
    """The three phases of an attack, and how many connections got which answer."""

    attack: Attack
    phases: tuple[Phase, Phase, Phase]
    answers: dict[str, int]

    def cells(self) -> list[str]:
        """Return the row of the table. Values are: calm / during / after."""

        def three(value: Callable[[Phase], str]) -> str:
            return " / ".join(value(phase) for phase in self.phases)

        return [
            self.attack.about,
            ", ".join(f"{answer}: {count:,}" for answer, count in sorted(self.answers.items())),
            three(lambda phase: f"{phase.rss_mib:.0f}"),
            three(lambda phase: _number(phase.p50_ms)),
            three(lambda phase: _number(phase.max_ms)),
            three(lambda phase: f"{phase.failures} of {phase.probes}"),
        ]


class Probe:
    """Sends GET /healthz again and again in a thread, and reads the memory of the API."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self._process = psutil.Process(pid)
        self._latencies: list[float] = []
        self._failures = 0
        self._rss = 0.0
        self._stopping = threading.Event()

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure until the block ends."""
        thread = threading.Thread(target=self._measure)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def phase(self) -> Phase:
        """Return what was measured."""
        spans = [span * 1000 for span in self._latencies]
        return Phase(
            self._rss,
            median(spans) if spans else None,
            max(spans, default=None),
            len(spans) + self._failures,
            self._failures,
        )

    def _measure(self) -> None:
        while not self._stopping.wait(_EVERY):
            self._rss = max(self._rss, resident_mib(self._process))
            began = time.perf_counter()
            if _is_alive(self._port, _PROBE_TIMEOUT):
                self._latencies.append(time.perf_counter() - began)
            else:
                self._failures += 1


def besiege(arena: Arena, attack: Attack, token: str, *, calm: float) -> Damage:
    """Attack a new API process and measure it."""
    port = free_port()
    # the limit of the shell command `ulimit -n`
    limited = (
        "import os, resource, sys; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({_OPEN_FILES}, {_OPEN_FILES})); "
        "os.execv(sys.executable, [sys.executable, '-m', 'callboard', 'run', 'api'])"
    )
    with arena.start("api", [sys.executable, "-c", limited], arena.env(port=port)) as process:

        def answers() -> bool:
            process.check()
            return _is_alive(port, 1.0)

        arena.until(answers, _START_TIMEOUT)
        phases: list[Phase] = []
        found: dict[str, int] = {}
        for number in range(3):
            probe = Probe(port, process.pid)
            with probe.measuring():
                if number == 1:
                    found = _attack(attack, port, token)
                else:
                    time.sleep(calm)
            process.check()
            phases.append(probe.phase())
            if number == 1:
                time.sleep(min(_REST, calm))
        before, during, after = phases
        return Damage(attack, (before, during, after), found)


def _attack(attack: Attack, port: int, token: str) -> dict[str, int]:
    """Run the attack in a process of its own, so that it does not slow down the probe."""
    words = [attack.name, str(port), token, str(attack.sockets), str(attack.seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.siege_attacks", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=2 * MAX_SECONDS,
    )
    answers: dict[str, int] = json.loads(done.stdout)
    return answers


def _is_alive(port: int, timeout: float) -> bool:
    """Return whether GET /healthz is answered on a new connection."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: attack, and print a row of a table for each attack."""
    known = {attack.name: attack for attack in attacks("")}
    parser = argparse.ArgumentParser(
        "python -m benchmarks.siege", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="few sockets for a second: to see that it works")
    options = parser.parse_args(arguments)
    if unknown := set(options.attacks) - known.keys():
        parser.error(f"there is no attack {', '.join(sorted(unknown))}; the attacks are {', '.join(known)}")
    configure("human", "warning")
    # SIGTERM stops the servers and the run as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _print_row(_COLUMNS)
    _print_row(["---"] * len(_COLUMNS))
    with Arena.open() as arena:
        arena.reset()
        source = {"name": KNOWN_SOURCE, "scheme": "github", "job": "pushed", "secret": "only for this siege"}
        arena.platform.intake(SECRET_KEY).create(source_request(source))
        _, token = arena.platform.auth.create("siege", "operator")
        for name in options.attacks or known:
            attack = known[name]
            if options.quick:
                attack = replace(attack, sockets=min(attack.sockets, 20), seconds=1)
            damage = besiege(arena, attack, token, calm=1.0 if options.quick else _CALM)
            _print_row(damage.cells())
    return 0


def _print_row(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
