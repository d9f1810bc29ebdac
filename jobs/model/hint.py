"""The data that Redis holds about a job that is ready to run."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from callboard.jobs.model.basics.ids import text_of


class Hint(NamedTuple):
    """A queued job that a worker may claim: its token (`id`, `epoch`) and its place in the queue.

    A named tuple, because every enqueue makes one: it costs a third of a frozen dataclass.
    """

    id: UUID
    epoch: int
    queue: str
    priority: int
    run_at: datetime
    #: True when the queue has limits: only the feeder may push the token to Redis.
    limited: bool = False


class Offer(NamedTuple):
    """Tokens of one queue that have the same place in its order."""

    queue: str
    priority: int
    run_at: datetime
    tokens: Sequence[str]


def token(job_id: UUID, epoch: int) -> str:
    """Return the token of a queued job: `id:epoch`."""
    return f"{text_of(job_id)}:{epoch}"


def offers_of(hints: Iterable[Hint]) -> list[Offer]:
    """Group hints into offers. Hints of queues with limits are left out: only the feeder may push them."""
    alike: dict[tuple[str, int, datetime], list[str]] = {}
    for hint in hints:
        if not hint.limited:
            tokens = alike.setdefault((hint.queue, hint.priority, hint.run_at), [])
            tokens.append(token(hint.id, hint.epoch))
    return [Offer(*place, tokens) for place, tokens in alike.items()]


class FeedTokens(NamedTuple):
    """Tokens of one queue as the feeder reads them, and the place of each in the queue's order.

    One text, because the feeder reads thousands of them several times a second: a row for each token takes
    three times as much Python.
    """

    number: int
    #: The place and the token of each job: `place id:epoch place id:epoch ...`
    text: str

    def ids(self) -> list[tuple[str, int]]:
        """Return the id and the epoch of each job."""
        pairs = (token.partition(":") for token in self.text.split()[1::2])
        return [(job, int(epoch)) for job, _, epoch in pairs]
