"""The reason of `job why` for a job that was put off, with the versions that accept its arguments."""

from dataclasses import replace
from typing import Final

from callboard.jobs.definitions import repository
from callboard.jobs.errors import InvalidArguments, InvalidInput
from callboard.jobs.model.job import Job
from callboard.jobs.model.job_type import JobVersion
from callboard.jobs.operate import reasons
from callboard.jobs.operate.reasons import Reason
from callboard.jobs.postgres.protocols import Connection

_MAX_NAMED: Final = 5


def put_off(connection: Connection, job: Job) -> Reason:
    """Return that workers put the job off, which versions accept it, who runs them, and what it waits for."""
    reason = reasons.put_off(job)
    known = repository.every(connection, job.name)
    if not known:
        return reason
    fitting = [one for one in known if _accepts(one, job)]
    running = any(one.workers for one in fitting)
    accepting = [{"digest": one.digest, "workers": one.workers} for one in fitting]
    data = {**reason.data, "versions": len(known), "accepting": accepting}
    if not fitting:
        told = f"none of the versions of {job.name} ({len(known)}) accepts its arguments"
        return replace(reason, text=f"{reason.text}; {told}", data=data)
    named = ", ".join(_named(one) for one in fitting[:_MAX_NAMED])
    told = f"{len(fitting)} of {len(known)} versions of {job.name} accept its arguments: {named}"
    waits = "it waits until such a worker takes it" if running else "it waits for a worker that runs one"
    mend = None if running else reason.mend
    return replace(reason, text=f"{reason.text}; {told}; {waits}", data=data, mend=mend)


def _accepts(version: JobVersion, job: Job) -> bool:
    # Imported here: it needs a large library, and few jobs were put off.
    from callboard.jobs.definitions.catalogue import ArgumentChecker

    try:
        ArgumentChecker(version.type.schema).check(job.args, job.kwargs)
    except (InvalidArguments, InvalidInput, TypeError, AttributeError):
        # A schema that was changed by hand may be no schema. The ledger of unreadable rows names it.
        return False
    return True


def _named(version: JobVersion) -> str:
    workers = "1 worker" if version.workers == 1 else f"{version.workers or 'no'} workers"
    return f"{version.digest} ({workers})"
