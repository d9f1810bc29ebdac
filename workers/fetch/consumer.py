"""The consumer: takes tokens from Redis, claims their jobs in Postgres, and hands them to the threads and the
event loop.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Lock
from typing import Final, Protocol

import dramatiq
import structlog

from callboard.jobs.attempts.claims import Claims
from callboard.jobs.attempts.put_off import Misfit
from callboard.jobs.dramatiq.definition import JobDefinition, unknown
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import CLAIMS_WITHOUT_TOKEN, STORE_ERRORS
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import Verb
from callboard.jobs.outage import Outage
from callboard.jobs.redis.queue_tokens import AGEING, read_token
from callboard.jobs.redis.transport import Transport
from callboard.jobs.watched_thread import report_failure
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import Attempt, JobKind, PutOff
from callboard.workers.execute.attempt_factory import AttemptFactory
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.fetch.job_source import QueueOrder, TokenSource
from callboard.workers.fetch.slots import Slots
from callboard.workers.fetch.work_queue import WorkQueue

#: One pop waits at most this long. An idle consumer notices a stop as late as this. Seconds.
_BLOCK: Final = 1.0
#: The pause between pops while some queues have room and others have none. Seconds.
_PARTIAL_PAUSE: Final = 0.01
#: The pause between two claims without tokens while Redis does not answer. Seconds.
_FALLBACK_PAUSE: Final = 0.5
#: The same pause while some queues have no room. A released slot ends it early.
_PARTIAL_FALLBACK_PAUSE: Final = 0.1
_PAUSE_WITHOUT_POSTGRES: Final = 1.0
#: A job of a limited queue that has waited so long for a thread goes back to its queue. Seconds.
_LATE: Final = 0.5

#: How much later a job of each priority counts as due.
_AGEING_STEPS: Final = [priority * AGEING for priority in range(10)]
_SINCE: Final = datetime(2020, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


class EndSink(Protocol):
    """Takes attempts that have ended or were not started, and has their outcomes written."""

    def put(self, attempt: Attempt) -> None: ...


class JobConsumer(dramatiq.Consumer):
    """Sends claimed jobs to where they run: sync ones to the work queue, async ones to the event loop.

    Runs in Dramatiq's one consumer thread. It yields no messages to that thread: Dramatiq's handling of a
    message costs as much as a small job.
    """

    def __init__(
        self,
        *,
        claims: Claims,
        transport: Transport,
        definitions: dict[str, JobDefinition],
        queues: Sequence[str],
        slots: Slots,
        ends: EndSink,
        loop: AsyncRunner,
        work_queue: WorkQueue,
        make_attempt: AttemptFactory,
        draining: Event,
        clock: Clock,
    ) -> None:
        self._claims = claims
        self._definitions = definitions
        self._queues = QueueOrder(claims, queues, definitions, clock)
        self._tokens = TokenSource(self._queues, transport, claims.worker)
        self._slots = slots
        self._ends = ends
        self._loop = loop
        self._work_queue = work_queue
        self._make_attempt = make_attempt
        self._draining = draining
        self._clock = clock
        #: Held during a claim. A drain takes it to make sure that no claim is running.
        self.claiming = Lock()
        #: Held while the flusher claims, for the same reason.
        self.handing_on = Lock()
        self._looked_at = clock.monotonic()
        self._outage = Outage(log, "consumer.waiting", "consumer.recovered", clock=clock)

    def __next__(self) -> None:
        if not self._draining.is_set():
            try:
                self._fill()
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "claim").inc()
                self._outage.failed(error.message)
                self._draining.wait(_PAUSE_WITHOUT_POSTGRES)
            except BaseException as error:
                # Dramatiq's thread goes on after an Exception. After another error it ends, and the child is
                # replaced.
                report_failure("callboard-consumer", error)
                raise
            else:
                self._outage.over()
        else:
            # The consumer claims nothing more, but it still gets the acks of running jobs.
            self._slots.wait_empty(_FALLBACK_PAUSE)

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Pass on an attempt that has ended or was not started."""
        if isinstance(message, AttemptMessage):
            self.end(message.attempt)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Pass on an attempt that middleware refused."""
        if isinstance(message, AttemptMessage):
            self._end(message.attempt, "refused by middleware", Verb.FAIL)

    def end(self, attempt: Attempt) -> None:
        """Pass on an attempt that has ended or was not started: its outcome is written next."""
        begun = attempt.began_at is not None
        self._end(
            attempt, "it ended without an outcome" if begun else "skipped by middleware",
            Verb.FAIL if begun else Verb.STOP,
        )  # fmt: skip

    def take_back(self) -> list[Attempt]:
        """Remove and return the attempts that were claimed and have not started."""
        with self.claiming, self.handing_on:
            return [*self._work_queue.take_all(), *self._loop.take_back()]

    @contextmanager
    def accepting(self) -> Iterator[bool]:
        """Yield whether the flusher may claim jobs within the block and pass them to `accept`."""
        with self.handing_on:
            yield not self._draining.is_set()

    def accept(self, claimed: list[ClaimedJob]) -> None:
        """Send jobs that the flusher has claimed to where they run."""
        self._accept(claimed)

    def _end(self, attempt: Attempt, reason: str, verb: Verb) -> None:
        """Pass on an attempt. One that has no outcome ends with this verb."""
        if attempt.finish is None and not attempt.unstarted:
            log.warning("job.not_run", **attempt.job.log_fields, reason=reason)
            attempt.finish = Finish(attempt.job.id, attempt.job.epoch, attempt.job.claim_id, verb)
        self._ends.put(attempt)

    def _fill(self) -> None:
        """Claim jobs for the free slots, or wait for a slot."""
        releases = self._slots.releases
        self._hand_back_late()
        rooms, everywhere = self._queues.with_room(self._slots)
        if not rooms:
            self._slots.wait_release(releases, _BLOCK if self._queues.any() else _FALLBACK_PAUSE)
            return
        adopted = self._claims.adopt()
        if adopted:
            self._accept(self._claims.with_arguments(adopted))
            return
        queues = self._queues.in_turn(rooms)
        raw = self._tokens.pop(queues, [rooms[name] for name in queues], _BLOCK if everywhere else 0)
        if raw is None:
            self._ask_postgres(queues, min(rooms.values()), releases, everywhere=everywhere)
            return
        if not raw and not everywhere:
            # Perhaps only the queues without room have jobs: wait here for a released slot.
            self._slots.wait_release(releases, _PARTIAL_PAUSE)
            return
        tokens = [token for member in raw if (token := read_token(member))]
        if tokens:
            with self.claiming:
                if not self._draining.is_set():
                    self._accept(self._claims.with_arguments(self._claims.claim(tokens)))

    def _ask_postgres(self, queues: Sequence[str], room: int, releases: int, *, everywhere: bool) -> None:
        """Claim without tokens: Redis does not answer, or may lack tokens of queued jobs."""
        found = 0
        for queue in self._tokens.worth_asking(queues):
            with self.claiming:
                if found < room and not self._draining.is_set():
                    claimed = self._claims.claim_oldest(queue, room - found)
                    self._accept(self._claims.with_arguments(claimed))
                    found += len(claimed)
        self._tokens.asked(found, everywhere=everywhere)
        if found:
            CLAIMS_WITHOUT_TOKEN.inc(found)
        elif not everywhere and self._tokens.unreliable:
            # Perhaps only the queues without room have jobs.
            self._slots.wait_release(releases, _PARTIAL_FALLBACK_PAUSE)
        elif self._tokens.away:
            self._draining.wait(_FALLBACK_PAUSE)

    def _accept(self, claimed: list[ClaimedJob]) -> None:
        """Take a slot for each claimed job and send it to where it runs, most urgent first."""
        sync: list[Attempt] = []
        on_loop: list[Attempt] = []
        counts: dict[str, dict[JobKind, int]] = {}
        for job in sorted(claimed, key=_urgency):
            definition = self._definitions.get(job.name)
            attempt = self._make_attempt(job, definition or unknown(job.name, job.queue))
            self._slots.take(attempt)
            if not job.args_json:
                self._hand_back(attempt)
                continue
            if job.problem is not None:
                attempt.refuse(job.problem)
                self._ends.put(attempt)
                continue
            if definition is None:
                self._put_off(attempt)
                continue
            of_queue = counts.get(job.queue)
            if of_queue is None:
                of_queue = counts[job.queue] = dict.fromkeys(JobKind, 0)
            of_queue[attempt.kind] += 1
            (on_loop if attempt.kind is JobKind.ASYNC else sync).append(attempt)
        self._queues.served(counts)
        # A queue may hold more sync jobs than expected: other workers should run the surplus.
        kept = max(len(sync) - self._slots.surplus(), 0)
        for attempt in sync[:kept]:
            self._work_queue.put(attempt)
        for attempt in sync[kept:]:
            self._hand_back(attempt)
        if on_loop:
            self._loop.submit(on_loop)
        self._slots.claim_taken(claimed)

    def _hand_back_late(self) -> None:
        """Put back what was claimed ahead from limited queues and waits behind longer jobs.

        Such a job takes a place, while another worker may be idle.
        """
        now = self._clock.monotonic()
        if now - self._looked_at < _LATE / 2:
            return
        self._looked_at = now
        if not self._work_queue.count() or not self._queues.returnable:
            return
        late = []
        # A drain must find all of them.
        with self.claiming:
            for attempt in self._work_queue.take_all():
                if attempt.job.queue in self._queues.returnable and now - attempt.claimed_at > _LATE:
                    late.append(attempt)
                else:
                    self._work_queue.put(attempt)
        if late:
            self._slots.claimed_too_early(JobKind.SYNC)
        for attempt in late:
            self._hand_back(attempt)

    def _hand_back(self, attempt: Attempt) -> None:
        """Put a job back into its queue, since this child has too much to do."""
        attempt.unstarted = True
        self._ends.put(attempt)

    def _put_off(self, attempt: Attempt) -> None:
        """Put off a job that this worker does not know.

        Another worker may know it, as in a rolling deploy.
        """
        attempt.put_off(PutOff(Misfit.UNKNOWN, f"does not know the job {attempt.job.name!r}"))
        self._ends.put(attempt)


def _urgency(job: ClaimedJob) -> timedelta:
    # A difference of times does not overflow, whatever the row says.
    return job.run_at - _SINCE + _AGEING_STEPS[job.priority]
