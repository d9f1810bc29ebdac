"""The log of an outage that lasts: one line when it begins, one every 30 seconds, and one when it is over."""

from types import TracebackType
from typing import Any, Final, Self

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock

#: How often an outage that lasts is logged again. After as long without a failure it counts as over. Seconds.
SAY_AGAIN_AFTER: Final = 30.0


class Outage:
    """Logs that somebody waits for a server, however often it is called while it waits.

    As a context it ends its block at Unavailable and logs that.

    log:       the caller's logger
    event:     the event of the outage, such as `consumer.waiting`
    recovered: the event of its end, such as `consumer.recovered`; empty: its end is not logged
    fields:    the fields of all its lines
    """

    def __init__(
        self, log: Any, event: str, recovered: str = "", *, clock: Clock = SYSTEM, **fields: object
    ) -> None:
        self._log = log
        self._event = event
        self._recovered = recovered
        self._clock = clock
        self._fields = fields
        self._began: float | None = None
        self._seen = 0.0
        self._said = 0.0

    def failed(self, reason: str, **fields: object) -> None:
        """Log the outage as a warning if it is new, or was last logged 30 seconds ago."""
        now = self._clock.monotonic()
        if self._began is None or (not self._recovered and now - self._seen > SAY_AGAIN_AFTER):
            self._began = self._said = now
            self._log.warning(self._event, reason=reason, **self._fields, **fields)
        elif now - self._said >= SAY_AGAIN_AFTER:
            self._said = now
            waited = round(now - self._began, 1)
            self._log.warning(self._event, reason=reason, waited=waited, **self._fields, **fields)
        self._seen = now

    def over(self) -> None:
        """Log the end of the outage, if there was one."""
        if self._began is None:
            return
        waited = round(self._clock.monotonic() - self._began, 1)
        self._began = None
        if self._recovered:
            self._log.info(self._recovered, waited=waited, **self._fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Unavailable):
            self.failed(error.message)
            return True
        if error is None:
            self.over()
        return False
