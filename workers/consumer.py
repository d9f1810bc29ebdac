"""The consumer: pops tokens from Redis, claims their jobs in Postgres, and hands them to Dramatiq's threads."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event, Lock
from typing import Final

import dramatiq
import structlog

from jobs.clock import Clock
from jobs.definition import JobDefinition, unknown
from jobs.errors import Unavailable
from jobs.metrics import STORE_ERRORS
from jobs.records import ClaimedJob, Finish
from jobs.services.execution import Execution
from jobs.states import Verb
from jobs.transport import AGEING, Transport, read_token
from workers.async_runner import AsyncRunner
from workers.attempt import Attempt
from workers.flusher import Flusher
from workers.runner import AttemptMessage
from workers.slots import Slots
from workers.work_queue import WorkQueue

#: One pop waits this long at most; also how soon a stop is noticed when idle. Seconds.
_BLOCK: Final = 1.0
#: The same while some queues have no room: their slots may be free again in a moment, and nothing else would tell.
_BRIEF_BLOCK: Final = 0.01
#: Between two looks straight into Postgres while Redis is away. Seconds.
_FALLBACK_BEAT: Final = 0.5
_PAUSE_WITHOUT_POSTGRES: Final = 1.0
_QUEUES_FRESH: Final = 5.0
#: Until a job that this worker does not know is offered again.
_UNKNOWN_HERE: Final = timedelta(seconds=5)

log = structlog.get_logger(__name__)


class JobConsumer(dramatiq.Consumer):
    """Sends claimed jobs to where they run: sync ones to the work queue, async ones to the loop.

    Runs in Dramatiq's one consumer thread. It yields nothing to that thread, whose way with each message costs as much
    as the job's own.
    """

    def __init__(
        self,
        *,
        execution: Execution,
        transport: Transport,
        definitions: dict[str, JobDefinition],
        wanted: Sequence[str],
        slots: Slots,
        flusher: Flusher,
        loop: AsyncRunner,
        work_queue: WorkQueue,
        make_attempt: Callable[[ClaimedJob, JobDefinition], Attempt],
        virtual_queue: str,
        draining: Event,
        clock: Clock,
    ) -> None:
        self._execution = execution
        self._transport = transport
        self._definitions = definitions
        self._queues = Queues(execution, wanted, definitions, clock)
        self._slots = slots
        self._flusher = flusher
        self._loop = loop
        self._work_queue = work_queue
        self._make_attempt = make_attempt
        self._virtual_queue = virtual_queue
        self._draining = draining
        self._clock = clock
        #: Held while tokens are being claimed; who holds it while draining knows that no claim is under way.
        self.claiming = Lock()
        self._redis_away_until = 0.0

    def __next__(self) -> None:
        if not self._draining.is_set():
            try:
                self._fill()
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "claim").inc()
                log.warning("consumer.waiting", reason=error.message)
                self._draining.wait(_PAUSE_WITHOUT_POSTGRES)
        else:
            # Kept alive for acks; nothing new is taken.
            self._slots.wait_empty(_FALLBACK_BEAT)

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """The attempt has ended, or was not begun: its outcome goes to the flusher."""
        if isinstance(message, AttemptMessage):
            begun = message.attempt.began_at is not None
            self._end(
                message.attempt, "it ended without an outcome" if begun else "skipped by middleware",
                Verb.FAIL if begun else Verb.STOP,
            )  # fmt: skip

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Middleware has refused the message."""
        if isinstance(message, AttemptMessage):
            self._end(message.attempt, "refused by middleware", Verb.FAIL)

    def take_back(self) -> list[Attempt]:
        """What was claimed and has not begun."""
        with self.claiming:
            return [message.attempt for message in self._work_queue.take_all()]

    def _end(self, attempt: Attempt, otherwise: str, verb: Verb) -> None:
        if attempt.finish is None and not attempt.unstarted:
            log.warning("job.not_run", job_id=str(attempt.job.id), reason=otherwise)
            attempt.finish = Finish(attempt.job.id, attempt.job.epoch, attempt.job.claim_id, verb)
        self._flusher.put(attempt)

    def _fill(self) -> None:
        queues, room, everywhere = self._queues.with_room(self._slots)
        if not queues or room <= 0:
            self._slots.wait_free(_BLOCK if self._queues.any() else _FALLBACK_BEAT)
            return
        adopted = self._execution.adopt()
        if adopted:
            self._accept(adopted)
            return
        try:
            if self._clock.monotonic() < self._redis_away_until:
                raise Unavailable("Redis was away a moment ago")
            raw = self._transport.pop(queues, room, _BLOCK if everywhere else _BRIEF_BLOCK)
        except Unavailable as error:
            self._without_redis(error, queues, room)
            return
        tokens = [token for member in raw if (token := read_token(member))]
        if tokens:
            with self.claiming:
                if not self._draining.is_set():
                    self._accept(self._execution.claim(tokens))

    def _without_redis(self, error: Unavailable, queues: Sequence[str], room: int) -> None:
        now = self._clock.monotonic()
        if now >= self._redis_away_until:
            STORE_ERRORS.labels("redis", "pop").inc()
            log.warning("consumer.without_redis", reason=error.message)
            self._redis_away_until = now + _PAUSE_WITHOUT_POSTGRES
        found = 0
        for queue in queues:
            with self.claiming:
                if found < room and not self._draining.is_set():
                    claimed = self._execution.claim_oldest(queue, room - found)
                    self._accept(claimed)
                    found += len(claimed)
        if not found:
            self._draining.wait(_FALLBACK_BEAT)

    def _accept(self, claimed: Sequence[ClaimedJob]) -> None:
        """Take slots and send each job to where it runs, most urgent first."""
        for job in sorted(claimed, key=lambda one: one.run_at + one.priority * AGEING):
            definition = self._definitions.get(job.name)
            attempt = self._make_attempt(job, definition or unknown(job.name, job.queue))
            self._slots.take(attempt)
            if definition is None:
                self._put_off(attempt)
            elif definition.is_async:
                self._loop.submit(attempt)
            else:
                self._work_queue.put(AttemptMessage(attempt, self._virtual_queue))

    def _put_off(self, attempt: Attempt) -> None:
        """Another worker may know this job (a rolling deploy): later, without spending an attempt."""
        job = attempt.job
        log.warning("job.unknown_here", job_id=str(job.id), job=job.name, queue=job.queue)
        attempt.finish = Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=_UNKNOWN_HERE)
        self._flusher.put(attempt)


class Queues:
    """The queues that this worker serves, in order of preference, and what runs in them."""

    def __init__(
        self, execution: Execution, wanted: Sequence[str], definitions: dict[str, JobDefinition], clock: Clock
    ) -> None:
        self._execution = execution
        self._wanted = tuple(wanted)
        self._clock = clock
        self._names: tuple[str, ...] = self._wanted
        self._read_at = float("-inf")
        self._kinds: dict[str, set[bool]] = {}
        for definition in definitions.values():
            self._kinds.setdefault(definition.queue, set()).add(definition.is_async)

    def any(self) -> bool:
        return bool(self._names)

    def with_room(self, slots: Slots) -> tuple[list[str], int, bool]:
        """The queues whose jobs, of whatever kind, there are free slots for, how many, and whether these are all."""
        self._refresh()
        free = {
            kind: slots.free(is_async=kind) if slots.worth_filling(is_async=kind) else 0
            for kind in (False, True)
        }
        names, room = [], 0
        for name in self._names:
            # A job may be sent to any queue: where a kind is not known to be alone, both must have room.
            kinds = self._kinds.get(name, {False})
            least = min(free[kind] for kind in kinds)
            if least > 0:
                names.append(name)
                room = least if room == 0 else min(room, least)
        return names, room, len(names) == len(self._names)

    def _refresh(self) -> None:
        """A worker of all queues learns of new ones within 5 seconds."""
        if self._wanted or self._clock.monotonic() - self._read_at < _QUEUES_FRESH:
            return
        self._names = tuple(self._execution.queue_names())
        self._read_at = self._clock.monotonic()
