"""Counts attempts whose ends were written, in the metrics."""

from collections import defaultdict
from collections.abc import Iterable

from callboard.jobs.metrics import JOB_DURATION, JOB_WAIT, JOBS_FINISHED
from callboard.jobs.model.states import Verb
from callboard.workers.execute.attempt import Attempt


def count_ends(attempts: Iterable[Attempt]) -> None:
    """Count attempts whose ends were written. Attempts that did not start are not counted.

    They are grouped first, because looking up a series costs more than counting in it.
    """
    groups: defaultdict[tuple[str, str, Verb], list[tuple[Attempt, float]]] = defaultdict(list)
    for attempt in attempts:
        began, finish, job = attempt.began_at, attempt.finish, attempt.job
        if began is not None and finish is not None:
            groups[job.queue, job.name, finish.verb].append((attempt, began))
    for (queue, name, verb), ended in groups.items():
        JOBS_FINISHED.labels(queue, name, verb).inc(len(ended))
        JOB_DURATION.labels(queue, name).observe_many([one.ended_at - began for one, began in ended])
        JOB_WAIT.labels(queue).observe_many([_start_delay(one, began) for one, began in ended])


def _start_delay(attempt: Attempt, began: float) -> float:
    """Return the seconds from when the job was due to its start.

    Up to the claim they are measured by the database's clock, from then on by this machine's.
    """
    job = attempt.job
    return max((job.started_at - job.run_at).total_seconds() + began - attempt.claimed_at, 0.0)
