"""A connection whose waits for the server have a limit: a server that falls silent counts as lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg

#: A statement gets its answer within this time, or its connection is closed. Seconds.
ANSWER_WITHIN: Final = 30.0
#: A new connection is ready within this time, for each host. Seconds.
CONNECT_WITHIN: Final = 5.0
#: The driver's shortest limit for a new connection. Seconds.
_SHORTEST_CONNECT: Final = 2.0


class ServerSilent(psycopg.OperationalError):
    """The server sent no answer in time. The connection is closed."""


@dataclass(slots=True)
class WaitLimits:
    """How long connections of one database wait. A change applies to waits that have begun, too.

    answer: for the answer to one statement. Seconds.
    until:  no wait ends later. Monotonic time in seconds.
    """

    answer: float = ANSWER_WITHIN
    until: float = float("inf")

    def connect(self, wanted: float = CONNECT_WITHIN) -> int:
        """Return the limit for a new connection, in whole seconds. Raises ServerSilent if none is left.

        wanted: the limit that applies while there is enough time; 0 for none.
        """
        left = min(self.answer, self.until - time.monotonic())
        if left <= 0:
            raise ServerSilent("this process stops, and opens no more connections")
        return round(max(min(left, wanted or left), _SHORTEST_CONNECT))


class CommitUnconfirmed(psycopg.OperationalError):
    """The server committed, but somebody cancelled its wait for the synchronous standby."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that closes itself when the server does not answer in time.

    Keepalives notice a host that vanished. They do not notice a server or a proxy that hangs, and there are
    none on a local socket.
    """

    #: Where Postgres waits for a standby. Its warnings come from there, in any language.
    _STANDBY_WAIT: Final = "SyncRepWaitForLSN"

    #: The limits of its database. Set once, after the connect.
    limits = WaitLimits()
    #: Its own limit for an answer, instead of the database's. Seconds.
    answer_within: float | None = None
    #: Whether its session is a pooler's, and serves other clients between our transactions.
    is_pooled = False
    #: Whether the last commit may be lost with this server.
    _is_unconfirmed = False

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Wait as psycopg does, until the limit. psycopg calls this for every statement."""
        result = super().wait(self._bounded(gen), *arguments, **options)
        if self._is_unconfirmed:
            # To the server it is a success with a warning. A promise needs the standby's word.
            self.close()
            raise CommitUnconfirmed("the synchronous standby has not confirmed the commit")
        return result

    def heed_notices(self) -> None:
        """Notice when the server gives up its wait for the synchronous standby."""
        self.add_notice_handler(self._heed)

    def _heed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == self._STANDBY_WAIT:
            self._is_unconfirmed = True

    def _bounded(self, gen: Any) -> Any:
        began = time.monotonic()
        try:
            waits_for = next(gen)
            while True:
                # Without news, the driver resumes this several times a second.
                ready = yield waits_for
                if not ready and self._is_late(began):
                    self.close()
                    raise ServerSilent(f"no answer within {time.monotonic() - began:.0f} s")
                waits_for = gen.send(ready)
        except StopIteration as ended:
            return ended.value

    def _is_late(self, began: float) -> bool:
        now = time.monotonic()
        return now > self.limits.until or now - began > (self.answer_within or self.limits.answer)


@contextmanager
def begun_by(connection: "psycopg.Connection[Any]", begin: bytes) -> Iterator[None]:
    """Run the block in a transaction that `begin` begins. The connection is in autocommit."""
    try:
        connection.execute(begin, prepare=False)
        yield
        connection.commit()
    except BaseException:
        with suppress(psycopg.Error):
            connection.rollback()
        raise
