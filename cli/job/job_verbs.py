"""`callboard job cancel|retry|delete`: change jobs by id, or all jobs that match a filter after a preview."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from callboard.cli.console.error_lines import exit_code, print_error
from callboard.cli.console.filter_options import Criteria, filter_options
from callboard.cli.console.options import ID, json_option, yes_option
from callboard.cli.console.output import confirmed, note, print_json, require_consent
from callboard.cli.console.text import count
from callboard.cli.job.job_views import print_job_objects
from callboard.jobs.errors import CallboardError
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState, Verb

if TYPE_CHECKING:
    from callboard.jobs.operate.control import Bulk
    from callboard.jobs.platform import Platform

_MAX_JOBS: Final = 100_000
_MAX_IDS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Action:
    """A verb of the command line.

    word: the command's name
    done: the past participle for messages: "1 job deleted"
    one:  applies the verb to one job and returns the changed job, or None if it is deleted
    """

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


def _command(action: _Action, text: str) -> click.Command:
    @click.command(action.word, help=text)
    @click.argument("ids", metavar="[ID]...", type=ID, nargs=-1)
    @filter_options
    @click.option(
        "--limit",
        type=click.IntRange(1, _MAX_JOBS),
        metavar="N",
        help="With a filter: only the oldest N jobs.",
    )
    @click.option("--dry-run", is_flag=True, help="With a filter: only count the jobs.")
    @yes_option
    @json_option
    def run(
        *,
        ids: tuple[UUID, ...],
        criteria: Criteria,
        limit: int | None,
        dry_run: bool,
        yes: bool,
        as_json: bool,
        force: bool = False,
    ) -> None:
        if ids and (criteria.is_set or limit is not None or dry_run):
            raise click.UsageError("ids and filters cannot be used together")
        if not ids and not criteria.is_set:
            raise click.UsageError("give job ids, or a filter such as --state or --queue")
        if len(ids) > _MAX_IDS:
            raise click.UsageError(f"at most {_MAX_IDS} ids at once; use a filter for more")
        if not ids:
            require_consent(yes=yes or dry_run)
        from callboard.cli.console.runtime import open_runtime

        chosen = replace(action, one=_cancel_by_force, force=True) if force else action
        with open_runtime() as runtime:
            if ids:
                _by_ids(runtime.platform, chosen, ids, as_json=as_json)
            else:
                _by_filter(
                    runtime.platform,
                    chosen,
                    criteria,
                    limit or _MAX_JOBS,
                    dry_run=dry_run,
                    yes=yes,
                    as_json=as_json,
                )

    if action.verb is Verb.CANCEL:
        run = click.option(
            "--force",
            is_flag=True,
            help="Kill the process of a running job that does not stop within a few seconds.",
        )(run)
    return run


def _by_ids(platform: "Platform", action: _Action, ids: Sequence[UUID], *, as_json: bool) -> None:
    """Apply the verb to each job. Errors are printed at the end; the first one decides the exit code."""
    changed: list[tuple[UUID, Job | None]] = []
    refusals: list[CallboardError] = []
    for job_id in dict.fromkeys(ids):
        try:
            changed.append((job_id, action.one(platform, job_id)))
        except CallboardError as error:
            refusals.append(error)
    if as_json:
        print_job_objects(changed)
    else:
        for job_id, job in changed:
            note(f"job {job_id} {_outcome_text(action, job)}")
    for refusal in refusals:
        print_error(refusal)
    if refusals:
        raise click.exceptions.Exit(exit_code(refusals[0]))


def _outcome_text(action: _Action, job: Job | None) -> str:
    if job is None:
        return "is deleted"
    if action.verb is Verb.CANCEL and job.state is JobState.RUNNING:
        return "is running and was asked to stop"
    return f"is {job.state}"


def _by_filter(
    platform: "Platform",
    action: _Action,
    criteria: Criteria,
    limit: int,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    control, target = platform.control, criteria.filter()
    preview = control.bulk(action.verb, target, limit=limit, dry_run=True)
    outcome = preview
    if not dry_run and preview.matched:
        if not confirmed(f"{action.word} {_count_text(preview, limit)} ({criteria.describe()})?", yes=yes):
            raise click.exceptions.Exit(1)
        outcome = control.bulk(action.verb, target, limit=limit, force=action.force)
    if as_json:
        values: dict[str, Any] = asdict(outcome) | {"dry_run": dry_run}
        print_json(values)
    elif not outcome.matched:
        note(f"no job to {action.word} matches")
    elif dry_run:
        note(f"{_count_text(outcome, limit)} would be {action.done}")
    else:
        rest = "" if outcome.complete else "; more jobs match: run the command again"
        note(f"{count(outcome.changed, 'job')} {action.done}{rest}")


def _count_text(preview: "Bulk", limit: int) -> str:
    """Return the number of matching jobs as text. The count stops at the limit, so there may be more."""
    jobs = count(preview.matched, "job")
    if preview.complete:
        return jobs
    return f"at least {jobs}" if limit == _MAX_JOBS else f"the oldest {jobs}"


cancel = _command(
    _Action(Verb.CANCEL, "cancel", "cancelled, or asked to stop", _cancel),
    "Cancel jobs by id, or all jobs that match a filter.\n\n"
    "A job that has not started is cancelled. A running job is asked to stop; --force ends one that does not"
    " stop by killing its process, and the other jobs of that process go back to their queues. With a filter,"
    " the jobs are counted first and you are asked to confirm. Without a terminal, that needs --yes.",
)
retry = _command(
    _Action(Verb.RERUN, "retry", "queued again", _retry),
    "Run finished jobs again, by id or all that match a filter.\n\n"
    "A retried job is queued again with its full number of attempts; its errors are kept. With a filter, the"
    " jobs are counted first and you are asked to confirm. Without a terminal, that needs --yes.",
)
delete = _command(
    _Action(Verb.DELETE, "delete", "deleted", _delete),
    "Delete finished jobs by id, or all that match a filter.\n\n"
    "With a filter, the jobs are counted first and you are asked to confirm. Without a terminal, that needs"
    " --yes.",
)
