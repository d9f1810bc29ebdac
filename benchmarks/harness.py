"""Cases, and how they are run: contenders take turns within each round, and ratios are taken within a round.

Rates depend on the machine and on the hour; what the project holds itself to are ratios of figures that were measured
seconds apart, and of those the median.
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

#: What one contender measured in one round, by figure: `rate`, `p50_ms`, `cpu_us` ...
Figures = dict[str, float]
Contender = Callable[[Arena], Figures]
#: One round: the figures of each subject that took part.
Round = dict[str, Figures]


@dataclass(frozen=True, slots=True)
class Target:
    """What the first contender is to reach: the median of a figure, or with `of` of its ratio to another's in the same round.

    must: the run fails when it does not; for promises, not for speed.
    """

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    of: str | None = None
    must: bool = False

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a target has one bound")

    def holds(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. The first contender is ours.

    contenders: by subject, a function that measures one round; whoever needs empty tables resets the arena.
    around:     what all rounds need and that is dear to make: entered once, in an empty arena.
    unit:       of the figure `rate`.
    """

    name: str
    about: str
    contenders: Mapping[str, Contender]
    targets: Sequence[Target] = ()
    unit: str = "jobs/s"
    around: Callable[[Arena], AbstractContextManager[Any]] = nullcontext

    @property
    def ours(self) -> str:
        return next(iter(self.contenders))


@dataclass(frozen=True, slots=True)
class Peer:
    """Another project to measure beside us, when it is installed: its contenders by the name of the case they join."""

    name: str
    installed: Callable[[], bool]
    contenders: Mapping[str, Contender]
    targets: Mapping[str, Sequence[Target]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, and what was reached; None when it could not be measured."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.target.holds(self.value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to. `failures`: a line for each contender that failed in a round."""

    case: Case
    rounds: Sequence[Round]
    failures: Sequence[str]

    def values(self, subject: str, figure: str) -> list[float]:
        """The figure of a subject, round by round; rounds in which it was not measured are left out."""
        return [one[subject][figure] for one in self.rounds if figure in one.get(subject, {})]

    def ratio(self, figure: str, other: str) -> float | None:
        """The median over the rounds of our figure divided by another's."""
        ours = self.case.ours
        pairs = [
            (one[ours][figure], one[other][figure])
            for one in self.rounds
            if figure in one.get(ours, {}) and figure in one.get(other, {})
        ]
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return median(ratios) if ratios else None

    def verdicts(self) -> list[Verdict]:
        return [Verdict(target, self._reached(target)) for target in self.case.targets]

    @property
    def failed(self) -> bool:
        """Whether something broke, or a promise did."""
        return bool(self.failures) or any(one.target.must and one.met is False for one in self.verdicts())

    def _reached(self, target: Target) -> float | None:
        if target.of is not None:
            return self.ratio(target.figure, target.of)
        values = self.values(self.case.ours, target.figure)
        # a promise is not kept in the median, but every time
        worst = max if target.at_most is not None else min
        return (worst(values) if target.must else median(values)) if values else None


def run_case(case: Case, arena: Arena, rounds: int, emit: Callable[[dict[str, Any]], None]) -> Outcome:
    """Measure a case; `emit` gets one record for each round and subject as it goes."""
    measured: list[Round] = []
    failures: list[str] = []
    arena.reset()
    with case.around(arena):
        for number in range(1, rounds + 1):
            figures: Round = {}
            for subject in _turns(case, number):
                begun = time.monotonic()
                record: dict[str, Any] = {"case": case.name, "round": number, "subject": subject}
                # One contender that breaks must not cost the figures of all others.
                try:
                    figures[subject] = case.contenders[subject](arena)
                    record["figures"] = {name: round(value, 4) for name, value in figures[subject].items()}
                except Exception as error:  # noqa: BLE001
                    traceback.print_exc()
                    record["error"] = f"{type(error).__name__}: {error}"
                    failures.append(f"round {number}, {subject}: {record['error']}"[:400])
                emit({**record, "seconds": round(time.monotonic() - begun, 1)})
            measured.append(figures)
    outcome = Outcome(case, measured, failures)
    for one in outcome.verdicts():
        target = {name: value for name, value in _fields(one.target) if value is not None}
        emit({"case": case.name, "target": target, "value": one.value, "met": one.met})
    return outcome


def percentiles(seconds: Sequence[float]) -> Figures:
    """p50, p95 and p99 in milliseconds, as figures: each is a value that was measured, the nearest in rank."""
    ordered = sorted(seconds)
    return {f"p{part}_ms": ordered[ceil(len(ordered) * part / 100) - 1] * 1000 for part in (50, 95, 99)}


def with_peers(cases: Sequence[Case], peers: Sequence[Peer]) -> list[Case]:
    """The cases, with these peers' contenders and targets."""
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
    """The cases of these names; `drain` stands for every `drain-...`. Raises KeyError with the name that fits none."""
    if not names:
        return list(cases)
    found: dict[str, Case] = {}
    for name in names:
        fits = {case.name: case for case in cases if case.name == name or case.name.startswith(f"{name}-")}
        if not fits:
            raise KeyError(name)
        found |= fits
    return list(found.values())


def _turns(case: Case, number: int) -> Iterator[str]:
    """Every second round the other way round, so that nobody always comes first."""
    subjects = list(case.contenders)
    return iter(subjects if number % 2 else reversed(subjects))


def _fields(target: Target) -> list[tuple[str, Any]]:
    return [(name, getattr(target, name)) for name in ("figure", "at_least", "at_most", "of")]
