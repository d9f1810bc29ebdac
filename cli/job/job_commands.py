"""`callboard job`: enqueue, list, show and wait. The commands that change jobs are in `job_verbs.py`."""

import errno
import os
import pwd
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from callboard.cli.console.arguments_option import read_arguments
from callboard.cli.console.filter_options import Criteria, filter_options
from callboard.cli.console.options import DURATION, ID, json_option
from callboard.cli.console.output import note
from callboard.cli.console.request_options import request_options, request_values
from callboard.cli.job.argument_help import EnqueueCommand
from callboard.cli.job.job_log_commands import logs
from callboard.cli.job.job_type_commands import publish, types
from callboard.cli.job.job_verbs import cancel, delete, retry
from callboard.cli.job.job_views import print_job, print_jobs
from callboard.cli.job.job_why_commands import why
from callboard.jobs.errors import CallboardError, InvalidArguments, JobUnsuccessful, WaitTimeout
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.states import JobState

if TYPE_CHECKING:
    from callboard.jobs.model.receipt import Receipt
    from callboard.jobs.platform import Platform


@click.group()
def job() -> None:
    """Enqueue, list, show, cancel, retry and delete jobs."""


for _verb in (cancel, retry, delete, why, logs, types, publish):
    job.add_command(_verb)


@job.command(cls=EnqueueCommand)
@click.argument("name")
@click.option(
    "--args",
    "arguments",
    metavar="JSON",
    help="A JSON object (arguments by name) or array (by position); @FILE, or - for stdin.",
)
@request_options
@click.option(
    "--unchecked",
    is_flag=True,
    help="Accept any job name and arguments: for a job that no worker has published yet.",
)
@click.option("--wait", is_flag=True, help="Wait until the job ends; exit with 6 unless it succeeds.")
@click.option(
    "--timeout",
    type=DURATION,
    metavar="DURATION",
    help="With --wait: wait at most this long, then exit with 124.",
)
@json_option
def enqueue(
    *,
    name: str,
    arguments: str | None,
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Enqueue a job and print its id.

    The job is committed when the command exits with 0. With a NAME, this help
    shows the arguments of that job.

    \b
    callboard job enqueue build_report --args '{"account_id": 7}' --in 10m
    callboard job enqueue build_report --args @report.json --wait --timeout 1m
    callboard job enqueue reindex --unique-key r-7 --on-conflict replace --in 30s
    """  # noqa: D301 - \b tells click to keep the lines
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait; the time limit of an attempt is --job-timeout")
    values = {**request_values(options), **read_arguments(arguments), "name": name}
    from callboard.cli.console.runtime import open_runtime
    from callboard.jobs.model.request import job_request
    from callboard.jobs.operate.listing import after_enqueue

    request = job_request(values)
    with open_runtime() as runtime:
        platform = runtime.platform
        request = platform.catalogue.in_app(request)
        try:
            batch = platform.enqueue.check(request, Source("cli", _user()))
        except InvalidArguments as error:
            hint = f"see 'callboard job enqueue {name} --help'"
            raise InvalidArguments(f"{error.message} ({hint})", fields=error.fields) from None
        [receipt] = platform.enqueue.accept(batch).receipts
        try:
            if receipt.existed or receipt.moved:
                note(_conflict_note(receipt, request.unique_key))
            with after_enqueue(f"job {receipt.id} is"):
                if wait:
                    _wait(platform, receipt.id, timeout, as_json=as_json)
                elif as_json:
                    print_job(platform.jobs.get(receipt.id), as_json=True)
                else:
                    click.echo(str(receipt.id))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            # The job is committed, so the message must keep the caller from sending it again.
            raise CallboardError(
                f"job {receipt.id} is enqueued, but the output failed: {error.strerror}"
            ) from error


@job.command("list")
@filter_options
@click.option(
    "--limit", type=click.IntRange(1, 200), default=50, show_default=True, metavar="N", help="Jobs per page."
)
@click.option("--cursor", metavar="CURSOR", help="Show the next page; the page before prints its cursor.")
@json_option
def list_(*, criteria: Criteria, limit: int, cursor: str | None, as_json: bool) -> None:
    """List jobs, newest first."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        page = runtime.platform.jobs.page(criteria.filter(), cursor=cursor, limit=limit)
        print_jobs(page, as_json=as_json)


@job.command()
@click.argument("job_id", metavar="ID", type=ID)
@click.option("--traceback", is_flag=True, help="Show the traceback of each failed attempt.")
@json_option
def show(*, job_id: UUID, traceback: bool, as_json: bool) -> None:
    """Show one job: its state, times, arguments, result and errors."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        found = runtime.platform.jobs.get(job_id)
        ahead = not as_json and runtime.platform.why.is_claimed_ahead(found)
        print_job(found, as_json=as_json, traceback=traceback, ahead=ahead)


@job.command()
@click.argument("job_id", metavar="ID", type=ID)
@click.option(
    "--timeout", type=DURATION, metavar="DURATION", help="Wait at most this long, then exit with 124."
)
@json_option
def wait(*, job_id: UUID, timeout: timedelta | None, as_json: bool) -> None:
    """Wait until a job ends and show it; exit with 6 unless it succeeds."""
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        _wait(runtime.platform, job_id, timeout, as_json=as_json)


def _conflict_note(receipt: "Receipt", key: str | None) -> str:
    """Return a message on an enqueue whose unique key another job held."""
    subject = f"the key {key}" if key else "the job's key"
    if receipt.replaced:
        return (
            f"{subject} is held by job {receipt.id} ({receipt.state}); its arguments and time were replaced"
        )
    if receipt.moved:
        return f"{subject} was held by a running job, which continues; the new job holds it now"
    return f"{subject} is held by job {receipt.id} ({receipt.state}); nothing was enqueued"


def _wait(platform: "Platform", job_id: UUID, timeout: timedelta | None, *, as_json: bool) -> None:
    try:
        finished = platform.waiting.wait(job_id, timeout)
    except (KeyboardInterrupt, SystemExit):
        # The wait ends, by Ctrl-C or SIGTERM. The job does not.
        note(f"job {job_id} is not stopped; to wait on: callboard job wait {job_id}")
        raise
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


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
