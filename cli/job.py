"""`callboard job`: enqueue, list, show and wait; the verbs that change jobs are in `job_verbs.py`."""

import os
import pwd
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from cli.arguments import read_arguments
from cli.filters import Criteria, filter_options
from cli.job_verbs import cancel, delete, retry
from cli.job_views import print_job, print_jobs
from cli.options import DURATION, ID, TIME, json_option
from cli.output import note
from jobs.errors import CallboardError, JobUnsuccessful, Unavailable, WaitTimeout
from jobs.records import Job, Source
from jobs.states import JobState

if TYPE_CHECKING:
    from jobs.platform import Platform


@click.group()
def job() -> None:
    """Enqueue jobs, look at them, cancel, retry and delete them."""


for _verb in (cancel, retry, delete):
    job.add_command(_verb)


@job.command()
@click.argument("name")
@click.option(
    "--args",
    "arguments",
    metavar="JSON",
    help="An object (by name) or an array (by position); @FILE, or - for stdin.",
)
@click.option("--queue", metavar="QUEUE", help="Other than the job's own queue.")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Not before 10m, 1h, 2d have passed.")
@click.option("--at", "run_at", type=TIME, metavar="TIME", help="Not before 2026-11-22T09:00:00Z.")
@click.option(
    "--priority", type=click.IntRange(0, 9), metavar="N", help="0 (first) to 9; 5 when nothing is said."
)
@click.option("--unique-key", metavar="KEY", help="At most one unfinished job has this key.")
@click.option(
    "--on-conflict",
    type=click.Choice(["existing", "reject"]),
    default="existing",
    show_default=True,
    help="When the key is taken: answer with the job that has it, or refuse.",
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="May be given more than once.")
@click.option(
    "--max-attempts", type=click.IntRange(1, 1000), metavar="N", help="Tries before it counts as failed."
)
@click.option("--job-timeout", type=DURATION, metavar="DURATION", help="An attempt may run this long.")
@click.option("--unchecked", is_flag=True, help="Accept a job that no worker knows yet, and any arguments.")
@click.option("--wait", is_flag=True, help="Wait for the job's end; exits with 6 unless it succeeded.")
@click.option(
    "--timeout",
    type=DURATION,
    metavar="DURATION",
    help="With --wait: this long at most; then exits with 124.",
)
@json_option
def enqueue(
    *,
    name: str,
    arguments: str | None,
    delay: timedelta | None,
    run_at: datetime | None,
    tags: tuple[str, ...],
    job_timeout: timedelta | None,
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
    **plain: Any,
) -> None:
    """Enqueue a job; prints its id.

    The job is committed when this exits with 0.

    \b
    callboard job enqueue build_report --args '{"account_id": 7}' --in 10m
    callboard job enqueue build_report --args @report.json --wait --timeout 1m
    """  # noqa: D301 - click's mark for lines to keep
    if delay is not None and run_at is not None:
        raise click.UsageError("--in and --at exclude each other")
    if timeout is not None and not wait:
        raise click.UsageError("--timeout belongs to --wait; an attempt's limit is --job-timeout")
    values = {
        **{key: value for key, value in plain.items() if value is not None},
        **read_arguments(arguments),
        "name": name, "delay": delay, "run_at": run_at, "tags": list(tags), "timeout": job_timeout,
    }  # fmt: skip
    from cli.runtime import opened
    from jobs.requests import job_request

    request = job_request(values)
    with opened() as runtime:
        platform = runtime.platform
        receipt = platform.enqueue.one(request, Source("cli", _user()))
        if receipt.existed:
            note(
                f"the key {request.unique_key} is held by job {receipt.id} ({receipt.state}); nothing was enqueued"
            )
        if wait:
            _wait(platform, receipt.id, timeout, as_json=as_json)
        elif as_json:
            print_job(_read_back(platform, receipt.id), as_json=True)
        else:
            click.echo(str(receipt.id))


@job.command("list")
@filter_options
@click.option(
    "--limit", type=click.IntRange(1, 200), default=50, show_default=True, metavar="N", help="Jobs on a page."
)
@click.option("--cursor", metavar="CURSOR", help="The next page, as the last one named it.")
@json_option
def list_(*, which: Criteria, limit: int, cursor: str | None, as_json: bool) -> None:
    """List jobs, newest first."""
    from cli.runtime import opened

    with opened() as runtime:
        page = runtime.platform.jobs.page(which.filter(), cursor=cursor, limit=limit)
        print_jobs(page, as_json=as_json)


@job.command()
@click.argument("job_id", metavar="ID", type=ID)
@click.option("--traceback", is_flag=True, help="With the traceback of every failed attempt.")
@json_option
def show(*, job_id: UUID, traceback: bool, as_json: bool) -> None:
    """Show one job: its life, arguments, result and errors."""
    from cli.runtime import opened

    with opened() as runtime:
        print_job(runtime.platform.jobs.get(job_id), as_json=as_json, traceback=traceback)


@job.command()
@click.argument("job_id", metavar="ID", type=ID)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="This long at most; then exits with 124.")
@json_option
def wait(*, job_id: UUID, timeout: timedelta | None, as_json: bool) -> None:
    """Wait for a job's end and show it; exits with 6 unless it succeeded."""
    from cli.runtime import opened

    with opened() as runtime:
        _wait(runtime.platform, job_id, timeout, as_json=as_json)


def _wait(platform: "Platform", job_id: UUID, timeout: timedelta | None, *, as_json: bool) -> None:
    try:
        finished = platform.waiting.wait(job_id, timeout)
    except WaitTimeout:
        print_job(platform.jobs.get(job_id), as_json=as_json)
        raise
    print_job(finished, as_json=as_json)
    if finished.state is not JobState.SUCCEEDED:
        raise JobUnsuccessful(f"job {finished.id} {_ending(finished)}")


def _ending(finished: Job) -> str:
    if finished.state is JobState.FAILED and finished.errors:
        last = finished.errors[-1]
        return f"failed: {last.get('class')}: {last.get('message')}"
    return str(finished.state) if finished.state is JobState.FAILED else f"was {finished.state}"


def _read_back(platform: "Platform", job_id: UUID) -> Job:
    try:
        return platform.jobs.get(job_id)
    except CallboardError as error:
        # The job is committed: nobody shall think that it has to be sent again.
        raise Unavailable(f"job {job_id} is enqueued, but cannot be shown: {error.message}") from error


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
