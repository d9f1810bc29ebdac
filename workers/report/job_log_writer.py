"""What jobs log and report last, on its way to Postgres: a handler that catches it, a thread that writes it."""

import logging
import sys
import traceback
from collections import deque
from threading import Event, Thread
from typing import Any, Final, Protocol

import structlog

from callboard.config.logging import redact
from callboard.config.redaction import mask_text
from callboard.jobs.attempts.context import RunningJob, running_job
from callboard.jobs.attempts.job_logs import LastWords
from callboard.jobs.attempts.log_lines import LONGEST_LEVEL, LONGEST_LINE, LONGEST_LOGGER, LogLines, Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.clock import Clock
from callboard.jobs.model.json_values import storable
from callboard.workers.execute.attempt import Attempt

#: How often the lines of running jobs are written. Seconds.
_BEAT: Final = 1.0
_RETRY_AFTER: Final = 0.5
#: Of a text longer than this only the two ends are looked at.
_LONGEST_READ: Final = 64_000
#: What every record has; the rest was given with `extra=`.
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "_logger", "_name"}
#: What a line has columns for already.
_SAID: Final = frozenset({"event", "level", "logger", "timestamp", "exc_info", "stack_info"})

log = structlog.get_logger(__name__)


class Ends(Protocol):
    """Takes attempts that have ended (workers.flusher.Flusher)."""

    def put(self, attempt: Attempt) -> None: ...


class JobLogHandler(logging.Handler):
    """Keeps what is logged while a job runs, wherever it is logged, with the attempt; costs everyone else one look."""

    def __init__(self, level: int, scribe: "Scribe") -> None:
        super().__init__(level)
        self._register = scribe.register

    def install(self) -> None:
        """Hear every logger, at this handler's own level; what the others show stays as it is."""
        root = logging.getLogger()
        for handler in root.handlers:
            handler.setLevel(max(handler.level, root.level))
        root.addHandler(self)
        root.setLevel(min(root.level, self.level))

    def createLock(self) -> None:  # noqa: N802 - the name that logging calls
        # An interrupt may strike a job in here, and a lock that it left behind would be for ever.
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        running = running_job()
        if running is None:
            return
        lines = running.lines or self._lines(running)
        try:
            text = _text(record, running)
        except Exception as error:  # noqa: BLE001 - what a job logs may raise when it is put into words
            text = f"<a line that cannot be shown: {type(error).__name__}>"
        lines.add(
            record.created,
            storable(str(record.levelname).lower(), LONGEST_LEVEL),
            storable(str(record.name), LONGEST_LOGGER),
            storable(_cut(text), LONGEST_LINE),
        )

    def _lines(self, running: RunningJob) -> LogLines:
        made = LogLines(running.id, running.epoch, running.attempt, self._register)
        # One step: of two threads of a job that begin at once, both get the same.
        lines: LogLines = vars(running).setdefault("lines", made)
        return lines


class Scribe(Thread):
    """Writes what attempts log, once a second, and an attempt's last lines and progress before its outcome.

    An attempt that has nothing to tell goes straight to the flusher. While Postgres is away those that have wait here
    as the others wait there, and hold their slots.
    """

    def __init__(self, words: LastWords, flusher: Ends, clock: Clock) -> None:
        super().__init__(name="callboard-scribe", daemon=True)
        self._words = words
        self._flusher = flusher
        self._clock = clock
        self._registered: deque[LogLines] = deque()
        self._ended: deque[Attempt] = deque()
        self._some = Event()
        self._stopping = Event()

    def register(self, lines: LogLines) -> None:
        """Lines wait."""
        self._registered.append(lines)

    def put(self, attempt: Attempt) -> None:
        """The attempt has ended."""
        running = attempt.running
        if running.lines is None and not running.untold:
            self._flusher.put(attempt)
            return
        self._ended.append(attempt)
        self._some.set()

    def run(self) -> None:
        due = self._clock.monotonic() + _BEAT
        while True:
            self._some.wait(max(due - self._clock.monotonic(), 0.0))
            self._some.clear()
            stopping = self._stopping.is_set()
            ended = _all(self._ended)
            lines = {attempt.running.lines: None for attempt in ended if attempt.running.lines is not None}
            if stopping or self._clock.monotonic() >= due:
                lines |= dict.fromkeys(_all(self._registered))
                due = self._clock.monotonic() + _BEAT
            self._write(list(lines), ended)
            for attempt in ended:
                self._flusher.put(attempt)
            if stopping and not self._ended:
                self._words.close()
                return

    def stop(self, timeout: float) -> None:
        """Write what there is, pass on who waits, and end; Postgres is not waited for."""
        self._stopping.set()
        self._some.set()
        self.join(timeout)

    def _write(self, lines: list[LogLines], ended: list[Attempt]) -> None:
        """Write, however often it takes while somebody waits for it; otherwise the next beat tries again."""
        while True:
            portions = {one: portion for one in lines if (portion := one.take()) is not None}
            words = [(job, job.reported) for job in (one.running for one in ended) if job.untold]
            try:
                self._say(list(portions.values()), words)
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "words").inc()
                log.debug("scribe.waiting", reason=error.message)
                if ended and not self._stopping.wait(_RETRY_AFTER):
                    continue
                self._registered.extend(portions)
                return
            except Exception:  # whatever it was, those who wait for their outcome must go on
                STORE_ERRORS.labels("postgres", "refused").inc()
                log.exception("scribe.refused", attempts=len(portions))
            for one in portions:
                one.written()
            for job, said in words:
                job.written(said)
            return

    def _say(self, portions: list[Portion], words: list[tuple[RunningJob, Any]]) -> None:
        reports = [Progress(job.id, job.epoch, job.claim_id, *said) for job, said in words if said]
        if portions or reports:
            self._words.write(portions, reports)


def _all(waiting: "deque[Any]") -> list[Any]:
    return [waiting.popleft() for _ in range(len(waiting))]


def _text(record: logging.LogRecord, running: RunningJob) -> str:
    """The line as a person reads it: the message, then fields, then the traceback; nothing secret in it."""
    if isinstance(record.msg, dict):
        # structlog, on its way through the standard library.
        message, fields, error = str(record.msg.get("event", "")), record.msg, record.msg.get("exc_info")
        own: dict[str, object] = {"job_id": str(running.id), "job": running.name, "attempt": running.attempt}
        fields = {
            key: value
            for key, value in fields.items()
            if key not in _SAID and not (key in own and own[key] == value)
        }
    else:
        message, error = record.getMessage(), record.exc_info
        extra = vars(record)
        fields = {key: extra[key] for key in extra.keys() - _PLAIN} if len(extra) > len(_PLAIN) - 4 else {}
    if fields:
        shown = redact(None, "", fields)
        message += "".join(f" {key}={value}" for key, value in shown.items())
    if error:
        message += "\n" + _traceback(error)
    return message


def _traceback(error: Any) -> str:
    if isinstance(error, tuple):
        error = error[1]
    elif not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    return "" if error is None else "".join(traceback.format_exception(error)).rstrip()


def _cut(text: str) -> str:
    """The text, masked before anything is cut; of a long one the middle goes, as its ends say most."""
    if len(text) > _LONGEST_READ:
        text = text[: _LONGEST_READ // 2] + "\n" + text[-_LONGEST_READ // 2 :]
    masked = mask_text(text)
    if len(masked) <= LONGEST_LINE:
        return masked
    left = f"\n… {len(masked) - LONGEST_LINE:,} characters …\n"
    half = (LONGEST_LINE - len(left)) // 2
    return masked[:half] + left + masked[-half:]
