"""Runs the programs that send, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from benchmarks.arena import PATIENCE, Arena


@dataclass(frozen=True, slots=True)
class Program:
    """A program of benchmarks/pace.py in its environment."""

    module: str
    environment: Mapping[str, str]
    arena: Arena

    @classmethod
    def ours(cls, arena: Arena) -> Self:
        return cls("benchmarks.our_sender", arena.env(), arena)

    @classmethod
    def bare(cls, arena: Arena) -> Self:
        return cls("benchmarks.rivals.bare_sender", arena.rival_env(), arena)

    def run(self, how: str, *numbers: float) -> dict[str, float]:
        """Its answer: `seconds` and `cpu`."""
        done = subprocess.run(
            [sys.executable, "-m", self.module, how, *map(str, numbers)],
            env=dict(self.environment),
            cwd=self.arena.folder,
            stdout=subprocess.PIPE,
            check=True,
            timeout=PATIENCE,
        )
        answer: dict[str, float] = json.loads(done.stdout)
        return answer

    def timed(self, how: str, count: int, *numbers: float) -> dict[str, float]:
        """The rate of `count` sends, and the CPU microseconds of each, as figures."""
        before = self.arena.cpu()
        answer = self.run(how, count, *numbers)
        after = self.arena.cpu()
        spent = self.arena.cpu_us(before | {"client": 0.0}, after | {"client": answer["cpu"]}, count)
        return {"rate": count / answer["seconds"], **spent}
