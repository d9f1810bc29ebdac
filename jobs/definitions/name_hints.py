"""What an error says about a name that no job has: the names that may be meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_MOST_NAMED: Final = 5


def name_hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return which known names may be meant: those with a namespace before it, or a close one.

    otherwise: the text when there is none.
    """
    names = sorted(known)
    full = [one for one in names if one.endswith(f".{name}")]
    if full:
        more = f" and {len(full) - _MOST_NAMED} more" if len(full) > _MOST_NAMED else ""
        named = ", ".join(repr(one) for one in full[:_MOST_NAMED])
        return f"in a namespace there is {named}{more}; give the full name"
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise
