"""Run the sender programs, each in its own process."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from benchmarks.arena import TIMEOUT, Arena


@dataclass(frozen=True, slots=True)
class SenderProgram:
    """A sender program with its environment; its command line is that of benchmarks/pace.py."""

    module: str
    environment: Mapping[str, str]
    arena: Arena

    @classmethod
    def ours(cls, arena: Arena) -> Self:
        """Return the program that enqueues with Callboard."""
        return cls("benchmarks.our_sender", arena.env(), arena)

    @classmethod
    def by_dramatiq(cls, arena: Arena) -> Self:
        """Return the program that sends with Dramatiq's actors through Callboard's broker."""
        return cls("benchmarks.our_dramatiq_sender", arena.env(), arena)

    @classmethod
    def bare(cls, arena: Arena) -> Self:
        """Return the program that sends with bare Dramatiq."""
        return cls("benchmarks.rivals.bare_sender", arena.rival_env(), arena)

    def run(self, mode: str, *numbers: float) -> dict[str, float]:
        """Run the program and return its output: `seconds` and `cpu`."""
        done = subprocess.run(
            [sys.executable, "-m", self.module, mode, *map(str, numbers)],
            env=dict(self.environment),
            cwd=self.arena.folder,
            stdout=subprocess.PIPE,
            check=True,
            timeout=TIMEOUT,
        )
        answer: dict[str, float] = json.loads(done.stdout)
        return answer

    def timed(self, mode: str, count: int, *numbers: float) -> dict[str, float]:
        """Return the rate of `count` sends and the CPU microseconds of each, as figures."""
        before = self.arena.cpu()
        answer = self.run(mode, count, *numbers)
        after = self.arena.cpu()
        spent = self.arena.cpu_us(before | {"client": 0.0}, after | {"client": answer["cpu"]}, count)
        return {"rate": count / answer["seconds"], **spent}
