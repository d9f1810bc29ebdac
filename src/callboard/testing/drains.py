"""The platform of the innermost drain whose block is open."""

from callboard.jobs.platform import Platform

_open: list[Platform] = []


def drain_here() -> Platform | None:
    """Return the platform of the innermost open drain; None when there is none."""
    return _open[-1] if _open else None


def opened(platform: Platform) -> None:
    """Record that a drain's block begins."""
    _open.append(platform)


def closed(platform: Platform) -> None:
    """Record that a drain's block ends."""
    _open.remove(platform)
