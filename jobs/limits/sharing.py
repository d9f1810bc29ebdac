"""Share the free places of a limited queue between its keys."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One key in a round: how many of its jobs run or are granted, and how many more could start."""

    key: str | None
    busy: int
    ready: int


def shared(turns: Sequence[Turn], places: int) -> list[int]:
    """Return the places of each turn.

    Each place goes to the key that has the fewest running or granted jobs at that moment.

    Among equal keys the first one gets it.
    """
    wishes = sorted(
        (turn.busy + step, position)
        for position, turn in enumerate(turns)
        for step in range(min(turn.ready, places))
    )
    got = [0] * len(turns)
    for _, position in wishes[: max(places, 0)]:
        got[position] += 1
    return got
