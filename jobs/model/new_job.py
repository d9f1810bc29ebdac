"""New jobs, checked and ready to be written, and batches of new jobs.

Almost all jobs of a batch have the same settings and differ only in their arguments. One statement with one
set of settings writes them. The shared settings are the fields of `JobSettings`. A new field there is
compared and written without any change here.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.basics.json_values import encode
from callboard.jobs.model.basics.stored_json import parsed
from callboard.jobs.model.derived_keys import derived_key, unique_key
from callboard.jobs.model.job import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_QUEUE, Source
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.request import JobRequest
from callboard.jobs.model.unique import OnConflict

#: The longest arguments of a job: bytes of JSON, for `args` and for `kwargs`.
ARGUMENTS_LIMIT: Final = 2 * 1024 * 1024
#: The longest options of a job (back-off bounds, options of a Dramatiq message): bytes of JSON.
OPTIONS_LIMIT: Final = 256 * 1024
#: The option with the id of the webhook delivery whose raw body is kept for the job.
DELIVERY_OPTION: Final = "delivery"
#: Sources that cannot react to a refusal: a schedule would stop, a webhook's sender would send again forever.
UNATTENDED_DOORS: Final = frozenset({"schedule", "webhook"})


class JobSettings(NamedTuple):
    """The settings of a new job that other jobs of the batch can share."""

    name: str
    queue: str
    #: How the job was enqueued: cli, http, python and so on.
    door: str
    priority: int
    max_attempts: int
    run_at: datetime | None
    delay: timedelta | None
    expires_at: datetime | None
    tags: tuple[str, ...]
    timeout: timedelta | None
    hard_timeout: timedelta | None
    #: Encoded JSON of rarely used options; durations in seconds.
    options: bytes | None
    limit_key: str | None


class UniqueClaim(NamedTuple):
    """The unique key of a new job, with its rule."""

    key: str
    #: How long the key is held from the enqueue on, even if the job ends earlier.
    period: timedelta | None
    on_conflict: OnConflict


class NewJob(NamedTuple):
    """One job, ready to be written. `args` and `kwargs` are encoded JSON."""

    id: UUID
    args: bytes
    kwargs: bytes
    source_id: str | None
    #: The id of the HTTP request that it began with.
    request_id: str | None
    settings: JobSettings
    unique: UniqueClaim | None = None


class AlikeJobs(NamedTuple):
    """Jobs with the same settings and no unique keys, as columns: one entry per job in each sequence."""

    settings: JobSettings
    ids: Sequence[UUID]
    args: Sequence[bytes]
    kwargs: Sequence[bytes]
    source_ids: Sequence[str | None]
    request_ids: Sequence[str | None]

    @property
    def jobs(self) -> list[NewJob]:
        """Return the same jobs as separate NewJob values."""
        columns = zip(self.ids, self.args, self.kwargs, self.source_ids, self.request_ids, strict=True)
        return [NewJob(*row, self.settings) for row in columns]

    def parts(self, size: int) -> "list[AlikeJobs]":
        """Split into batches of at most `size` jobs."""
        if len(self.ids) <= size:
            return [self]
        cuts = [slice(start, start + size) for start in range(0, len(self.ids), size)]
        return [
            AlikeJobs(
                self.settings, self.ids[cut], self.args[cut], self.kwargs[cut], self.source_ids[cut],
                self.request_ids[cut],
            )
            for cut in cuts
        ]  # fmt: skip


class MixedJobs(NamedTuple):
    """Jobs that differ in their settings, or that have unique keys."""

    jobs: Sequence[NewJob]

    @property
    def ids(self) -> list[UUID]:
        return [job.id for job in self.jobs]

    @property
    def has_keys(self) -> bool:
        return any(job.unique is not None for job in self.jobs)


Batch = AlikeJobs | MixedJobs


def batch_of(jobs: Sequence[NewJob]) -> Batch:
    """Make a batch of these jobs, in the same order."""
    if len(jobs) == 1 and jobs[0].unique is None:
        [job] = jobs
        return AlikeJobs(job.settings, [job.id], [job.args], [job.kwargs], [job.source_id], [job.request_id])
    settings = jobs[0].settings if jobs else None
    if settings is None or any(job.unique is not None or job.settings != settings for job in jobs):
        return MixedJobs(jobs)
    return AlikeJobs(
        settings,
        [job.id for job in jobs],
        [job.args for job in jobs],
        [job.kwargs for job in jobs],
        [job.source_id for job in jobs],
        [job.request_id for job in jobs],
    )


def merged(batches: Sequence[Batch]) -> Batch:
    """Join several batches to one, in the same order."""
    first = batches[0]
    if len(batches) == 1:
        return first
    alike = [batch for batch in batches if isinstance(batch, AlikeJobs)]
    if len(alike) < len(batches) or any(batch.settings != alike[0].settings for batch in alike):
        return MixedJobs([job for batch in batches for job in batch.jobs])
    return AlikeJobs(
        alike[0].settings,
        [id_ for batch in alike for id_ in batch.ids],
        [args for batch in alike for args in batch.args],
        [kwargs for batch in alike for kwargs in batch.kwargs],
        [source_id for batch in alike for source_id in batch.source_ids],
        [request_id for batch in alike for request_id in batch.request_ids],
    )


def new_job(
    request: JobRequest,
    kind: JobType | None,
    source: Source,
    *,
    args: bytes,
    kwargs: bytes,
    text_keys: bool = False,
) -> NewJob:
    """Make the job for a request. Options that the request does not set come from the job type.

    args, kwargs: the encoded arguments of the request. text_keys: as for `encode`, in the options.

    Raises InvalidInput for an option that is not valid.
    """

    def derive(names: Sequence[str]) -> str:
        # Keys are made from the arguments as JSON: a date is its text. So every source makes the same key.
        return derived_key(kind.schema if kind else {}, parsed(args), parsed(kwargs), names)

    settings = JobSettings(
        name=request.name,
        queue=request.queue or (kind.queue if kind else DEFAULT_QUEUE),
        door=source.door,
        priority=_chosen(request.priority, kind.priority if kind else DEFAULT_PRIORITY),
        max_attempts=_chosen(request.max_attempts, kind.max_attempts if kind else DEFAULT_MAX_ATTEMPTS),
        run_at=request.run_at,
        delay=request.delay,
        expires_at=request.expires_at,
        tags=tuple(dict.fromkeys(request.tags)),
        timeout=_span(request.timeout, kind.timeout if kind else None),
        hard_timeout=_span(request.hard_timeout, kind.hard_timeout if kind else None),
        options=_options(request, text_keys=text_keys),
        limit_key=request.limit_key or (derive(kind.limit_by) if kind and kind.limit_by else None),
    )
    unique = _unique(request, kind, source, derive)
    return NewJob(new_id(), args, kwargs, source.id, source.request_id, settings, unique)


def like_with(job: NewJob, kwargs: Sequence[bytes]) -> AlikeJobs:
    """Return a new job like this one for each of these encoded named arguments."""
    ids, count = [new_id() for _ in kwargs], len(kwargs)
    sources, request_ids = [job.source_id] * count, [job.request_id] * count
    return AlikeJobs(job.settings, ids, [job.args] * count, kwargs, sources, request_ids)


def with_delivery(job: NewJob, delivery_id: UUID) -> NewJob:
    """Return the job with a reference to the webhook delivery whose raw body is kept for it."""
    options = {} if job.settings.options is None else parsed(job.settings.options)
    options[DELIVERY_OPTION] = str(delivery_id)
    written = encode(options, limit=OPTIONS_LIMIT, what="options")
    return job._replace(settings=job.settings._replace(options=written))


def encode_args(args: list[Any], *, text_keys: bool = False) -> bytes:
    """Encode positional arguments as JSON. Raises NotStorable, also beyond ARGUMENTS_LIMIT.

    text_keys: as for `encode`; Dramatiq's messages have them.
    """
    return encode(args, limit=ARGUMENTS_LIMIT, what="args", text_keys=text_keys)


def encode_kwargs(kwargs: dict[str, Any], *, text_keys: bool = False) -> bytes:
    """Do what `encode_args` does, for named arguments."""
    return encode(kwargs, limit=ARGUMENTS_LIMIT, what="kwargs", text_keys=text_keys)


def _unique(
    request: JobRequest, kind: JobType | None, source: Source, derive: Callable[[Sequence[str]], str]
) -> UniqueClaim | None:
    """Return the unique key, its period and its rule: from the request, else from the job type."""
    rule = kind.unique if kind else None
    key, period, on_conflict = request.unique_key, request.unique_for, request.on_conflict
    if rule is not None:
        key = key or unique_key(request.name, derive(rule.by))
        period = _span(period, rule.period)
        if on_conflict is None and not (rule.on_conflict == "reject" and source.door in UNATTENDED_DOORS):
            on_conflict = rule.on_conflict
    if key is not None:
        return UniqueClaim(key, period or None, on_conflict or "existing")
    if period or on_conflict in {"replace", "reject"}:
        option = "unique_for" if period else f"on_conflict={on_conflict}"
        raise InvalidInput(
            f"{option} needs a unique_key", fields={option.partition("=")[0]: "a unique_key is needed"}
        )
    return None


def _options(request: JobRequest, *, text_keys: bool) -> bytes | None:
    spans = {"min_backoff": request.min_backoff, "max_backoff": request.max_backoff}
    options: dict[str, Any] = {name: span.total_seconds() for name, span in spans.items() if span is not None}
    if request.message_options:
        options["message"] = request.message_options
    return encode(options, limit=OPTIONS_LIMIT, what="options", text_keys=text_keys) if options else None


def _span(asked: timedelta | None, default: float | None) -> timedelta | None:
    if asked is not None:
        return asked
    return timedelta(seconds=default) if default else None


def _chosen(asked: int | None, default: int) -> int:
    return default if asked is None else asked
