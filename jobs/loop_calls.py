"""The calls of an object that belongs to one event loop, and their end."""

import asyncio
from types import TracebackType

from callboard.jobs.errors import InvalidInput


class WrongEventLoop(InvalidInput, RuntimeError):
    """An AsyncClient was used in another event loop than the one in which it was used first."""

    stored_as = "WrongEventLoop"


class ClientClosed(InvalidInput, RuntimeError):
    """An AsyncClient was used after its close, or was closed during the call."""

    stored_as = "ClientClosed"


class LoopCalls:
    """Counts the calls that have not ended. A call is a `with` block.

    The first call decides which event loop this belongs to.
    """

    def __init__(self) -> None:
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._ended = asyncio.Event()
        self._ended.set()

    def check_loop(self) -> None:
        """Raise WrongEventLoop in another event loop than that of the first call."""
        here = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = here
        if self._loop is not here:
            state = "has ended" if self._loop.is_closed() else "is another one"
            raise WrongEventLoop(
                f"this AsyncClient belongs to the event loop that used it first, which {state};"
                " make one AsyncClient in each event loop, and close it there"
            )

    async def ended(self) -> None:
        """Wait until all calls have ended."""
        await self._ended.wait()

    def __enter__(self) -> None:
        self.check_loop()
        if self.closed:
            raise ClientClosed("this AsyncClient is closed; make another one")
        self._count += 1
        self._ended.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if not self._count:
            self._ended.set()
