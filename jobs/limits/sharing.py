"""Limits of a queue: what may be set, how a rate is written, and how free places are shared between keys."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One key's part in a round: how many of its jobs are under way, and how many more could start."""

    key: str | None
    busy: int
    ready: int


def shared(turns: Sequence[Turn], places: int) -> list[int]:
    """How many places each turn gets: one by one to whoever then has the least under way; among equals, in their order."""
    wishes = sorted(
        (turn.busy + step, position)
        for position, turn in enumerate(turns)
        for step in range(min(turn.ready, places))
    )
    got = [0] * len(turns)
    for _, position in wishes[: max(places, 0)]:
        got[position] += 1
    return got
