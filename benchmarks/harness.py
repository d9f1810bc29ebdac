"""Run cases. The contenders take turns in each round, and ratios are computed within a round.

Rates depend on the machine and on its load at the time. The project's targets are therefore medians of ratios
between figures that were measured seconds apart.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from math import ceil
from statistics import median
from typing import Any

from benchmarks.arena import Arena

#: The results of one contender in one round, by name: `rate`, `p50_ms`, `cpu_us` ...
Figures = dict[str, float]
#: A function that measures one contender once.
Contender = Callable[[Arena], Figures]
#: The figures of one round, by contender.
Round = dict[str, Figures]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the first contender's median of a figure or, with `of`, on its ratio to another contender.

    must: the run fails if the target is missed in any round; for promises, not for speed
    """

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    of: str | None = None
    must: bool = False

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a target has exactly one bound")

    def holds(self, value: float) -> bool:
        """Return whether a value meets the target."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. The first contender is ours.

    contenders: by name, a function that measures one round. It resets the arena if it needs empty tables.
    around:     an expensive context that all rounds share; entered once, in an empty arena
    unit:       the unit of the figure `rate`
    """

    name: str
    about: str
    contenders: Mapping[str, Contender]
    targets: Sequence[Target] = ()
    unit: str = "jobs/s"
    around: Callable[[Arena], AbstractContextManager[Any]] = nullcontext

    @property
    def ours(self) -> str:
        """Return the name of our own contender."""
        return next(iter(self.contenders))


@dataclass(frozen=True, slots=True)
class Peer:
    """Another project that is measured beside us if it is installed.

    contenders, targets: by the name of the case that they join
    """

    name: str
    installed: Callable[[], bool]
    contenders: Mapping[str, Contender]
    targets: Mapping[str, Sequence[Target]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and the value that was reached, or None if it could not be measured."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool | None:
        """Return whether the target is met; None if it was not measured."""
        return None if self.value is None else self.target.holds(self.value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a case. `failures`: a line for each contender that failed in a round."""

    case: Case
    rounds: Sequence[Round]
    failures: Sequence[str]

    def values(self, subject: str, figure: str) -> list[float]:
        """Return a contender's figure by round, without the rounds in which it was not measured."""
        return [one[subject][figure] for one in self.rounds if figure in one.get(subject, {})]

    def ratio(self, figure: str, other: str) -> float | None:
        """Return the median over the rounds of our figure divided by that of another contender."""
        ours = self.case.ours
        pairs = [
            (one[ours][figure], one[other][figure])
            for one in self.rounds
            if figure in one.get(ours, {}) and figure in one.get(other, {})
        ]
        ratios = [our_value / their_value for our_value, their_value in pairs if their_value]
        return median(ratios) if ratios else None

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each target."""
        return [Verdict(target, self._reached(target)) for target in self.case.targets]

    @property
    def failed(self) -> bool:
        """Return whether a contender failed or a promise was broken."""
        return bool(self.failures) or any(one.target.must and one.met is False for one in self.verdicts())

    def _reached(self, target: Target) -> float | None:
        if target.of is not None:
            return self.ratio(target.figure, target.of)
        values = self.values(self.case.ours, target.figure)
        # a promise must hold in every round, not only in the median
        worst = max if target.at_most is not None else min
        return (worst(values) if target.must else median(values)) if values else None


def run_case(case: Case, arena: Arena, rounds: int, emit: Callable[[dict[str, Any]], None]) -> Outcome:
    """Measure a case. `emit` gets one record for each round and contender, then one for each target."""
    measured: list[Round] = []
    failures: list[str] = []
    arena.reset()
    with case.around(arena):
        for number in range(1, rounds + 1):
            figures: Round = {}
            for subject in _turns(case, number):
                started = time.monotonic()
                record: dict[str, Any] = {"case": case.name, "round": number, "subject": subject}
                # A contender that fails must not stop the others.
                try:
                    figures[subject] = case.contenders[subject](arena)
                    record["figures"] = {name: round(value, 4) for name, value in figures[subject].items()}
                except Exception as error:  # noqa: BLE001
                    traceback.print_exc()
                    record["error"] = f"{type(error).__name__}: {error}"
                    failures.append(f"round {number}, {subject}: {record['error']}"[:400])
                emit({**record, "seconds": round(time.monotonic() - started, 1)})
            measured.append(figures)
    outcome = Outcome(case, measured, failures)
    for one in outcome.verdicts():
        target = {name: value for name, value in _fields(one.target) if value is not None}
        emit({"case": case.name, "target": target, "value": one.value, "met": one.met})
    return outcome


def percentiles(seconds: Sequence[float]) -> Figures:
    """Return p50, p95 and p99 in milliseconds as figures, each a measured value (nearest rank)."""
    ordered = sorted(seconds)
    return {f"p{part}_ms": ordered[ceil(len(ordered) * part / 100) - 1] * 1000 for part in (50, 95, 99)}


def with_peers(cases: Sequence[Case], peers: Sequence[Peer]) -> list[Case]:
    """Return the cases with the contenders and targets of these peers."""
    return [
        replace(
            case,
            contenders={
                **case.contenders,
                **{peer.name: peer.contenders[case.name] for peer in peers if case.name in peer.contenders},
            },
            targets=(
                *case.targets,
                *(target for peer in peers for target in peer.targets.get(case.name, ())),
            ),
        )
        for case in cases
    ]


def chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Return the cases with these names; `drain` means every `drain-...`.

    Raise KeyError with the name that matches no case.
    """
    if not names:
        return list(cases)
    found: dict[str, Case] = {}
    for name in names:
        matches = {case.name: case for case in cases if case.name == name or case.name.startswith(f"{name}-")}
        if not matches:
            raise KeyError(name)
        found |= matches
    return list(found.values())


def _turns(case: Case, number: int) -> Iterator[str]:
    """Return the contenders in their order for this round. Every second round reverses it, to be fair."""
    subjects = list(case.contenders)
    return iter(subjects if number % 2 else reversed(subjects))


def _fields(target: Target) -> list[tuple[str, Any]]:
    return [(name, getattr(target, name)) for name in ("figure", "at_least", "at_most", "of")]
