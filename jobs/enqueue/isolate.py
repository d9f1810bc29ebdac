"""Writing together what has nothing to do with each other: one transaction where that works, and each its own error."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from callboard.jobs.errors import Busy, Unavailable

T = TypeVar("T")
R = TypeVar("R")

#: How long a group waits for somebody's open transaction that holds one of its unique keys; and each key after that.
_PATIENCE: Final = timedelta(seconds=1)
_SHORT_PATIENCE: Final = timedelta(milliseconds=100)


def together(
    group: Sequence[T],
    write: Callable[[Sequence[T], timedelta], Sequence[R | Exception]],
    *,
    has_key: Callable[[T], bool],
) -> list[R | Exception]:
    """What became of each of the group, in its order.

    write: writes a group in one transaction, waiting so long at most for somebody's open one that holds a unique key;
    all of it is there, or it raises. has_key: whether one of them has such a key.
    """
    return _write(group, write, has_key, _PATIENCE)


def _write(
    group: Sequence[T],
    write: Callable[[Sequence[T], timedelta], Sequence[R | Exception]],
    has_key: Callable[[T], bool],
    patience: timedelta,
) -> list[R | Exception]:
    if not group:
        return []
    try:
        return list(write(group, patience))
    except Busy as error:
        if len(group) == 1:
            return [error]
    except Unavailable as error:
        return [error for _ in group]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the guilty one's alone to hear
        if len(group) == 1:
            return [error]
        # One of them cannot be written: halve the group until it stands alone.
        middle = len(group) // 2
        return _write(group[:middle], write, has_key, patience) + _write(
            group[middle:], write, has_key, patience
        )
    # Somebody's open transaction holds a key of the group: those without one need not wait for it.
    plain = [index for index, one in enumerate(group) if not has_key(one)]
    told = dict(
        zip(plain, _write([group[index] for index in plain], write, has_key, patience), strict=True)
        if len(plain) < len(group)
        else ()
    )
    for index, one in enumerate(group):
        if index not in told:
            [told[index]] = _write([one], write, has_key, _SHORT_PATIENCE)
    return [told[index] for index in range(len(group))]
