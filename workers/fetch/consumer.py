"""The consumer: pops tokens from Redis, claims their jobs in Postgres, and hands them to Dramatiq's threads."""

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Event, Lock
from typing import Final

import dramatiq
import structlog

from callboard.jobs.attempts.execution import Execution
from callboard.jobs.attempts.put_off import Misfit
from callboard.jobs.dramatiq.definition import JobDefinition, unknown
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import CLAIMS_WITHOUT_TOKEN, STORE_ERRORS
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.clock import Clock
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import Verb
from callboard.jobs.redis.transport import AGEING, Transport, read_token
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import Attempt, PutOff
from callboard.workers.execute.runner import AttemptMessage
from callboard.workers.fetch.hints import Hints
from callboard.workers.fetch.queue_order import Queues
from callboard.workers.fetch.slots import Slots
from callboard.workers.fetch.work_queue import WorkQueue
from callboard.workers.report.job_log_writer import Ends

#: One pop waits this long at most; also how soon a stop is noticed when idle. Seconds.
_BLOCK: Final = 1.0
#: Between two looks at queues that have room while others have none. Seconds.
_BRIEF: Final = 0.01
#: Between two looks straight into Postgres while Redis is away. Seconds.
_FALLBACK_BEAT: Final = 0.5
#: The same while some queues have no room, and nothing is released meanwhile.
_PARTIAL_BEAT: Final = 0.1
_PAUSE_WITHOUT_POSTGRES: Final = 1.0

#: What each step of priority is worth.
_STEPS: Final = [priority * AGEING for priority in range(10)]

log = structlog.get_logger(__name__)


def _urgency(job: ClaimedJob) -> datetime:
    return job.run_at + _STEPS[job.priority]


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
        ends: Ends,
        loop: AsyncRunner,
        work_queue: WorkQueue,
        make_attempt: Callable[[ClaimedJob, JobDefinition], Attempt],
        draining: Event,
        clock: Clock,
    ) -> None:
        self._execution = execution
        self._definitions = definitions
        self._queues = Queues(execution, wanted, definitions, clock)
        self._hints = Hints(self._queues, transport, execution.worker)
        self._slots = slots
        self._ends = ends
        self._loop = loop
        self._work_queue = work_queue
        self._make_attempt = make_attempt
        self._draining = draining
        self._clock = clock
        #: Held while tokens are being claimed; who holds it while draining knows that no claim is under way.
        self.claiming = Lock()

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
        """The attempt has ended, or was not begun: its outcome goes to be written."""
        if isinstance(message, AttemptMessage):
            self.end(message.attempt)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Middleware has refused the message."""
        if isinstance(message, AttemptMessage):
            self._end(message.attempt, "refused by middleware", Verb.FAIL)

    def end(self, attempt: Attempt) -> None:
        """The attempt has ended, or was not begun."""
        begun = attempt.began_at is not None
        self._end(
            attempt, "it ended without an outcome" if begun else "skipped by middleware",
            Verb.FAIL if begun else Verb.STOP,
        )  # fmt: skip

    def take_back(self) -> list[Attempt]:
        """What was claimed and has not begun."""
        with self.claiming:
            return [*self._work_queue.take_all(), *self._loop.take_back()]

    def _end(self, attempt: Attempt, otherwise: str, verb: Verb) -> None:
        if attempt.finish is None and not attempt.unstarted:
            log.warning("job.not_run", job_id=str(attempt.job.id), reason=otherwise)
            attempt.finish = Finish(attempt.job.id, attempt.job.epoch, attempt.job.claim_id, verb)
        self._ends.put(attempt)

    def _fill(self) -> None:
        rooms, everywhere = self._queues.with_room(self._slots)
        if not rooms:
            self._slots.wait_free(_BLOCK if self._queues.any() else _FALLBACK_BEAT)
            return
        adopted = self._execution.adopt()
        if adopted:
            self._accept(adopted)
            return
        queues = self._queues.in_turn(rooms)
        raw = self._hints.pop(queues, [rooms[name] for name in queues], _BLOCK if everywhere else 0)
        if raw is None:
            self._ask_postgres(queues, min(rooms.values()), everywhere=everywhere)
            return
        if not raw and not everywhere:
            # The queues that have no room may be those with the jobs: what is released is heard of here.
            self._slots.wait_free(_BRIEF)
            return
        tokens = [token for member in raw if (token := read_token(member))]
        if tokens:
            with self.claiming:
                if not self._draining.is_set():
                    self._accept(self._execution.claim(tokens))

    def _ask_postgres(self, queues: Sequence[str], room: int, *, everywhere: bool) -> None:
        """Claim without tokens: Redis is away, or may not have been told of all there is."""
        found = 0
        for queue in self._hints.worth_asking(queues):
            with self.claiming:
                if found < room and not self._draining.is_set():
                    claimed = self._execution.claim_oldest(queue, room - found)
                    self._accept(claimed)
                    found += len(claimed)
        self._hints.asked(found, everywhere=everywhere)
        if found:
            CLAIMS_WITHOUT_TOKEN.inc(found)
        elif not everywhere and self._hints.wanting:
            # The queues that have no room may be those with the jobs.
            self._slots.wait_free(_PARTIAL_BEAT)
        elif self._hints.away:
            self._draining.wait(_FALLBACK_BEAT)

    def _accept(self, claimed: list[ClaimedJob]) -> None:
        """Take slots and send each job to where it runs, most urgent first."""
        claimed = self._execution.with_arguments(claimed)
        sync: list[Attempt] = []
        awaited: list[Attempt] = []
        kinds: dict[str, list[int]] = {}
        for job in sorted(claimed, key=_urgency):
            definition = self._definitions.get(job.name)
            attempt = self._make_attempt(job, definition or unknown(job.name, job.queue))
            self._slots.take(attempt)
            if not job.args_json:
                self._hand_back(attempt)
                continue
            if definition is None:
                self._put_off(attempt)
                continue
            kinds.setdefault(job.queue, [0, 0])[definition.is_async] += 1
            (awaited if definition.is_async else sync).append(attempt)
        self._queues.served(kinds)
        # When a queue has more sync jobs in it than before, others had better run some of them.
        kept = max(len(sync) - self._slots.surplus(), 0)
        for attempt in sync[:kept]:
            self._work_queue.put(attempt)
        for attempt in sync[kept:]:
            self._hand_back(attempt)
        if awaited:
            self._loop.submit(awaited)
        self._slots.taken(claimed)

    def _hand_back(self, attempt: Attempt) -> None:
        """It was too much for this child: back to the queue at once, as it came."""
        attempt.unstarted = True
        self._ends.put(attempt)

    def _put_off(self, attempt: Attempt) -> None:
        """Another worker may know this job (a rolling deploy): later, without spending an attempt."""
        attempt.put_off(PutOff(Misfit.UNKNOWN, f"does not know the job {attempt.job.name!r}"))
        self._ends.put(attempt)
