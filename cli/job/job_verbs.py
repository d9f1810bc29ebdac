"""`callboard job cancel|retry|delete`: by ids, or by filter with a count before anything is done."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from callboard.cli.console.error_lines import exit_code, say
from callboard.cli.console.filter_options import Criteria, filter_options
from callboard.cli.console.options import ID, json_option, yes_option
from callboard.cli.console.output import confirmed, note, print_json
from callboard.cli.console.text import count
from callboard.cli.job.job_views import print_job_objects
from callboard.jobs.errors import CallboardError
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState, Verb

if TYPE_CHECKING:
    from callboard.jobs.operate.control import Bulk
    from callboard.jobs.platform import Platform

_MOST: Final = 100_000
_MOST_IDS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Act:
    """A verb: its words, and what it does to one job (None: the job is gone)."""

    verb: Verb
    word: str
    done: str
    one: Callable[["Platform", UUID], Job | None]
    force: bool = False


def _cancel(platform: "Platform", job_id: UUID) -> Job:
    return platform.control.cancel(job_id)


def _cancel_by_force(platform: "Platform", job_id: UUID) -> Job:
    return platform.control.cancel(job_id, force=True)


def _retry(platform: "Platform", job_id: UUID) -> Job:
    return platform.control.rerun(job_id)


def _delete(platform: "Platform", job_id: UUID) -> None:
    platform.control.delete(job_id)


def _command(act: _Act, text: str) -> click.Command:
    @click.command(act.word, help=text)
    @click.argument("ids", metavar="[ID]...", type=ID, nargs=-1)
    @filter_options
    @click.option(
        "--limit", type=click.IntRange(1, _MOST), metavar="N", help="By filter: the oldest N of them."
    )
    @click.option("--dry-run", is_flag=True, help="By filter: only count them.")
    @yes_option
    @json_option
    def run(
        *,
        ids: tuple[UUID, ...],
        which: Criteria,
        limit: int | None,
        dry_run: bool,
        yes: bool,
        as_json: bool,
        force: bool = False,
    ) -> None:
        if ids and (which.given or limit is not None or dry_run):
            raise click.UsageError("ids and filters exclude each other")
        if not ids and not which.given:
            raise click.UsageError("which jobs? Give their ids, or a filter such as --state or --queue")
        if len(ids) > _MOST_IDS:
            raise click.UsageError(f"at most {_MOST_IDS} ids at once; use a filter for more")
        from callboard.cli.console.runtime import opened

        how = replace(act, one=_cancel_by_force, force=True) if force else act
        with opened() as runtime:
            if ids:
                _by_ids(runtime.platform, how, ids, as_json=as_json)
            else:
                _by_filter(
                    runtime.platform, how, which, limit or _MOST, dry_run=dry_run, yes=yes, as_json=as_json
                )

    if act.verb is Verb.CANCEL:
        run = click.option(
            "--force",
            is_flag=True,
            help="Kill the process of a running job that does not stop within seconds.",
        )(run)
    return run


def _by_ids(platform: "Platform", act: _Act, ids: Sequence[UUID], *, as_json: bool) -> None:
    """Do it to each; one that refuses does not hinder the others, and the first refusal is the exit code."""
    changed: list[tuple[UUID, Job | None]] = []
    refusals: list[CallboardError] = []
    for job_id in dict.fromkeys(ids):
        try:
            changed.append((job_id, act.one(platform, job_id)))
        except CallboardError as error:
            refusals.append(error)
    if as_json:
        print_job_objects(changed)
    else:
        for job_id, job in changed:
            note(f"job {job_id} {_became(act, job)}")
    for refusal in refusals:
        say(refusal)
    if refusals:
        raise click.exceptions.Exit(exit_code(refusals[0]))


def _became(act: _Act, job: Job | None) -> str:
    if job is None:
        return "is deleted"
    if act.verb is Verb.CANCEL and job.state is JobState.RUNNING:
        return "is running; it is asked to stop"
    return f"is {job.state}"


def _by_filter(
    platform: "Platform", act: _Act, which: Criteria, limit: int, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    control, target = platform.control, which.filter()
    preview = control.bulk(act.verb, target, limit=limit, dry_run=True)
    outcome = preview
    if not dry_run and preview.matched:
        if not confirmed(f"{act.word} {_counted(preview, limit)} ({which.words()})?", yes=yes):
            raise click.exceptions.Exit(1)
        outcome = control.bulk(act.verb, target, limit=limit, force=act.force)
    if as_json:
        values: dict[str, Any] = asdict(outcome) | {"dry_run": dry_run}
        print_json(values)
    elif not outcome.matched:
        note(f"no job to {act.word} fits")
    elif dry_run:
        note(f"{_counted(outcome, limit)} would be {act.done}")
    else:
        rest = "" if outcome.complete else "; there are more: do it again for the next"
        note(f"{count(outcome.changed, 'job')} {act.done}{rest}")


def _counted(preview: "Bulk", limit: int) -> str:
    """How many jobs were counted; the count ends where the verb would."""
    jobs = count(preview.matched, "job")
    if preview.complete:
        return jobs
    return f"at least {jobs}" if limit == _MOST else f"the oldest {jobs} of more"


cancel = _command(
    _Act(Verb.CANCEL, "cancel", "cancelled, or asked to stop", _cancel),
    "Cancel jobs: by ids, or all that fit a filter.\n\n"
    "What has not begun is cancelled; a running job is asked to stop. By filter, the jobs are counted, and on a terminal"
    " you are asked, before anything is done. A job that does not stop when it is asked can be ended with --force: what runs"
    " beside it in the same process goes back to its queue.",
)
retry = _command(
    _Act(Verb.RERUN, "retry", "queued again", _retry),
    "Run finished jobs again: by ids, or all that fit a filter.\n\n"
    "A retried job is queued with all its attempts before it; its errors are kept. By filter, the jobs are counted, and on"
    " a terminal you are asked, before anything is done.",
)
delete = _command(
    _Act(Verb.DELETE, "delete", "deleted", _delete),
    "Delete finished jobs: by ids, or all that fit a filter.\n\n"
    "By filter, the jobs are counted, and on a terminal you are asked, before anything is done.",
)
