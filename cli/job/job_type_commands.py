"""`callboard job publish` and `callboard job types`: the versions of jobs."""

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import click

from callboard.cli.console.options import json_option
from callboard.cli.console.output import Column, print_fields, print_items, print_table
from callboard.cli.console.text import ago, one_line
from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from callboard.jobs.model.job_type import JobVersion

_PUBLISHED: Final = (Column("JOB", cut=True), Column("VERSION"), Column("CHANGE"))
_TYPES: Final = (
    Column("JOB", cut=True), Column("VERSION"), Column("QUEUE", cut=True), Column("WORKERS", right=True),
    Column("USED"), Column("PUBLISHED"),
)  # fmt: skip


@click.command()
@json_option
def publish(*, as_json: bool) -> None:
    """Publish the jobs of CALLBOARD_JOBS without a worker.

    Run it before a deploy. Their versions become the newest, and count as live for a day: the command
    line, HTTP, SQL, webhooks and schedules accept their arguments.
    """
    from callboard.cli.console.runtime import open_runtime
    from callboard.jobs.dramatiq.job_modules import imported_types

    with open_runtime() as runtime:
        types = imported_types(runtime.settings.jobs, runtime.platform)
        published = runtime.platform.catalogue.publish(types, announced=True)
    if as_json:
        print_items({"name": one.name, "digest": one.digest, "change": one.change} for one in published)
        return
    print_table(_PUBLISHED, [(one.name, one.digest, one.change) for one in published], empty="no job")


@click.command()
@click.argument("name", required=False)
@json_option
def types(*, name: str | None, as_json: bool) -> None:
    """List the versions of jobs, newest first; NAME shows one job.

    WORKERS counts the live workers that run a version. USED says whether the
    command line, HTTP, SQL, webhooks and schedules accept its arguments.
    """
    from callboard.cli.console.runtime import open_runtime

    with open_runtime() as runtime:
        catalogue = runtime.platform.catalogue
        versions = catalogue.versions(None if name is None else catalogue.full_name(name))
        if name is not None and not versions:
            # It raises the error with the names that may be meant.
            catalogue.get(name)
    if as_json:
        grouped = groupby(versions, lambda one: one.type.name)
        print_items({"name": job, "versions": [_object(one) for one in found]} for job, found in grouped)
    elif name is None:
        now = SYSTEM.now()
        rows = [
            (
                one.type.name, one.digest, one.type.queue, str(one.workers),
                "yes" if one.is_current else "no", ago(one.published_at, now),
            )
            for one in versions
        ]  # fmt: skip
        print_table(_TYPES, rows, empty="no job is published; start a worker, or run 'callboard job publish'")
    else:
        _show(versions)


def _show(versions: "list[JobVersion]") -> None:
    now = SYSTEM.now()
    for one in versions:
        required = set(one.type.schema.get("required", ()))
        properties = one.type.schema.get("properties", {})
        arguments = [f"{each} (required)" if each in required else each for each in properties]
        print_fields(
            [
                ("job", one.type.name),
                ("version", one.digest),
                ("used", "yes" if one.is_current else "no"),
                ("workers", str(one.workers)),
                ("queue", one.type.queue),
                ("arguments", ", ".join(arguments) or "none"),
                ("module", one.type.module or "not known"),
                ("published", ago(one.published_at, now)),
                ("seen", ago(one.seen_at, now)),
                ("about", one_line(one.type.doc) or "-"),
            ]
        )


def _object(version: "JobVersion") -> dict[str, Any]:
    kind = version.type
    return {
        "digest": version.digest,
        "workers": version.workers,
        "is_live": version.is_live,
        "is_current": version.is_current,
        "published_at": version.published_at,
        "seen_at": version.seen_at,
        "queue": kind.queue,
        "module": kind.module,
        "doc": kind.doc,
        "priority": kind.priority,
        "max_attempts": kind.max_attempts,
        "timeout": kind.timeout,
        "hard_timeout": kind.hard_timeout,
        "schema": kind.schema,
    }
