"""Limit the bodies of requests: each by itself, and all that are in memory at the same time."""

from typing import Final

from starlette.types import Message, Receive

from callboard.jobs.errors import PayloadTooLarge, Unavailable

#: The bodies of one budget that are in memory at the same time may have this many bytes, or twice the longest
#: body if that is more. The first bytes of each body do not count, so large bodies never keep small ones out.
_TOTAL: Final = 32 * 1024 * 1024
#: A length with more digits does not fit into 64 bits, and the server refuses it.
_MAX_DIGITS: Final = 18
_UNCOUNTED: Final = 64 * 1024


class BodyBudget:
    """The memory that the bodies of running requests use. For use on one event loop.

    longest: the longest body of one request, in bytes
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._total = max(_TOTAL, 2 * longest)
        self._used = 0

    def reserve(self, size: int) -> None:
        """Count bytes as used; raise Unavailable if that is too many."""
        if self._used + size > self._total:
            raise Unavailable("the server is reading too many large bodies at the moment; try again")
        self._used += size

    def release(self, size: int) -> None:
        """Count bytes as free again."""
        self._used -= size


class LimitedBody:
    """A `receive` for one request.

    Raises PayloadTooLarge if more than the limit is declared or received, and Unavailable if all bodies
    together use too much memory.

    declared: the content-length header, or an empty text
    """

    def __init__(self, receive: Receive, declared: str, budget: BodyBudget) -> None:
        self._receive = receive
        self._budget = budget
        self._declared = int(declared) if declared.isdecimal() and len(declared) <= _MAX_DIGITS else 0
        self._received = 0
        self._reserved = 0
        #: Whether the app has asked for the body.
        self.asked = False

    async def __call__(self) -> Message:
        self.asked = True
        if self._declared > self._budget.longest:
            raise self._too_large()
        message = await self._receive()
        size = len(message.get("body", b""))
        if size:
            self._received += size
            if self._received > self._budget.longest:
                raise self._too_large()
            if self._received - self._reserved > _UNCOUNTED:
                self._budget.reserve(size)
                self._reserved += size
        return message

    def release(self) -> None:
        """Give the memory back, when the request has ended."""
        self._budget.release(self._reserved)
        self._reserved = 0

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is larger than {self._budget.longest:,} bytes (CALLBOARD_MAX_BODY)")
