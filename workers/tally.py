"""What attempts came to, in numbers: counted by the batch, as looking up a series costs more than counting in it."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from jobs.metrics import JOB_DURATION, JOB_WAIT, JOBS_FINISHED
from jobs.states import Verb
from workers.attempt import Attempt


def tally(attempts: Iterable[Attempt]) -> None:
    """Count attempts whose ends were written. What never began was only put off, or given back."""
    waits: defaultdict[str, list[float]] = defaultdict(list)
    durations: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    ends: Counter[tuple[str, str, Verb]] = Counter()
    for attempt in attempts:
        began, finish, job = attempt.began_at, attempt.finish, attempt.job
        if began is None or finish is None:
            continue
        due_to_claimed = (job.started_at - job.run_at).total_seconds()
        waits[job.queue].append(max(due_to_claimed + began - attempt.claimed_at, 0.0))
        durations[job.queue, job.name].append(attempt.ended_at - began)
        ends[job.queue, job.name, finish.verb] += 1
    for queue, waited in waits.items():
        JOB_WAIT.labels(queue).observe_many(waited)
    for (queue, name), took in durations.items():
        JOB_DURATION.labels(queue, name).observe_many(took)
    for (queue, name, verb), number in ends.items():
        JOBS_FINISHED.labels(queue, name, verb).inc(number)
