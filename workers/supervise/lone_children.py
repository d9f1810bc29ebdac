"""How many lone children are missing. Each runs the suspects one after another, alone in its process."""

from collections.abc import Sequence
from typing import Final

from callboard.workers.supervise.child_process import ChildProcess

#: So many lone children may exist. One that has run the same job for longer than `_LONG` is not counted: an
#: hour of one suspect must not hold up the others. But there are never more than `_AT_MOST`.
_AT_ONCE: Final = 6
_AT_MOST: Final = 12
_LONG: Final = 5.0
#: So many of them may boot at the same time, because that takes a processor for a second.
_BOOTING: Final = 2


def missing(children: Sequence[ChildProcess], waiting: int, now: float) -> int:
    """Return how many lone children to start now. waiting: how many suspects could start at once.

    The more often suspects still wait when this is asked, the more children there are.
    """
    lone = [child for child in children if child.solo and not child.dismissed]
    busy = [child for child in lone if child.board.started()]
    long = sum(bool(child.runs) and now - child.runs_since > _LONG for child in busy)
    booting = sum(child.is_booting for child in lone)
    room = min(_AT_ONCE - (len(lone) - long), _AT_MOST - len(lone), _BOOTING - booting)
    return max(min(waiting - (len(lone) - len(busy)), room), 0)


#: No more than this many suspects need to be counted.
COUNTED: Final = _AT_MOST + 1
