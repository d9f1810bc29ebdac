"""Checking: from what is asked for to the row that will be written, held against what the workers published."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import orjson

from callboard.jobs.definitions.catalogue import Catalogue, KnownJob
from callboard.jobs.definitions.job_type import JobType
from callboard.jobs.enqueue.batch import Alike, NewJob
from callboard.jobs.enqueue.unique_keys import NOBODY_THERE
from callboard.jobs.errors import CallboardError, InvalidInput
from callboard.jobs.model.derived_keys import derived_key, unique_key
from callboard.jobs.model.ids import new_id
from callboard.jobs.model.job import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_QUEUE, Source
from callboard.jobs.model.json_values import encode
from callboard.jobs.model.request import JobRequest

#: Bytes of JSON that a job's arguments may have.
ARGUMENTS_LIMIT: Final = 2 * 1024 * 1024
#: The same of what a Dramatiq message carries.
OPTIONS_LIMIT: Final = 256 * 1024

T = TypeVar("T")
R = TypeVar("R")
Derived = Callable[[Sequence[str]], str]


class Checking:
    """Makes rows of requests; raises UnknownJob, InvalidArguments or InvalidInput."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def check(self, request: JobRequest, source: Source) -> NewJob:
        """One request."""
        known = self._known(request)
        _check_fit(known, request, request.kwargs)
        kind = known.type if known else None
        args = encode(request.args, limit=ARGUMENTS_LIMIT, what="args")
        kwargs = _encoded(request.kwargs)
        derive = _deriving(kind, args, kwargs)
        return NewJob(
            id=new_id(),
            name=request.name,
            queue=request.queue or (kind.queue if kind else DEFAULT_QUEUE),
            args=args,
            kwargs=kwargs,
            priority=_first(request.priority, kind.priority if kind else None, DEFAULT_PRIORITY),
            max_attempts=_first(
                request.max_attempts, kind.max_attempts if kind else None, DEFAULT_MAX_ATTEMPTS
            ),
            run_at=request.run_at,
            delay=request.delay,
            expires_at=request.expires_at,
            tags=tuple(dict.fromkeys(request.tags)),
            timeout=_span(request.timeout, kind.timeout if kind else None),
            source=source,
            hard_timeout=_span(request.hard_timeout, kind.hard_timeout if kind else None),
            options=_options(request),
            limit_key=request.limit_key or (derive(kind.limit_by) if kind and kind.limit_by else None),
            **_unique(request, kind, source, derive),
        )

    def check_all(self, requests: Sequence[JobRequest], source: Source) -> list[NewJob]:
        """Several; an error names the one it is about: `jobs[3]: kwargs.month: missing`."""
        return _numbered(requests, lambda request: self.check(request, source))

    def check_alike(
        self, request: JobRequest, kwargs: Sequence[dict[str, Any]], source: Source
    ) -> Alike | None:
        """One request for each of these named arguments; whatever does not depend on them is checked once.

        None when the jobs are not alike: a unique key is in the way of all but one, and keys that are derived from
        arguments are others for each.
        """
        known = self._known(request)
        if request.unique_key or (known and (known.type.unique or known.type.limit_by)):
            return None
        [like] = self.check_all([request.model_copy(update={"kwargs": kwargs[0]})], source)

        def fit(one: dict[str, Any]) -> bytes:
            _check_fit(known, request, one)
            return _encoded(one)

        count = len(kwargs)
        return Alike(
            like,
            [new_id() for _ in range(count)],
            [like.args] * count,
            _numbered(kwargs, fit),
            [like.source.id] * count,
        )

    def _known(self, request: JobRequest) -> KnownJob | None:
        find = self._catalogue.find if request.unchecked else self._catalogue.get
        return find(request.name)


def _numbered(items: Sequence[T], check: Callable[[T], R]) -> list[R]:
    checked = []
    for index, item in enumerate(items):
        try:
            checked.append(check(item))
        except CallboardError as error:
            fields = {f"jobs[{index}].{path}": problem for path, problem in error.fields.items()}
            raise type(error)(f"jobs[{index}]: {error.message}", fields=fields) from None
    return checked


def _check_fit(known: KnownJob | None, request: JobRequest, kwargs: dict[str, Any]) -> None:
    if known is not None and not request.unchecked:
        known.checker.check(request.args, kwargs)


def _encoded(kwargs: dict[str, Any]) -> bytes:
    return encode(kwargs, limit=ARGUMENTS_LIMIT, what="kwargs")


def _span(asked: timedelta | None, default: float | None) -> timedelta | None:
    if asked is not None:
        return asked
    return timedelta(seconds=default) if default else None


def _unique(request: JobRequest, kind: JobType | None, source: Source, arguments: Derived) -> dict[str, Any]:
    """The unique key, its period and its rule of conflict: what the request says, else what the job's definition does."""
    rule = kind.unique if kind else None
    key, period, on_conflict = request.unique_key, request.unique_for, request.on_conflict
    if rule is not None:
        key = key or unique_key(request.name, arguments(rule.by))
        period = _span(period, rule.period)
        if on_conflict is None and not (rule.on_conflict == "reject" and source.door in NOBODY_THERE):
            on_conflict = rule.on_conflict  # type: ignore[assignment]
    if key is None and (period or on_conflict in {"replace", "reject"}):
        option = "unique_for" if period else f"on_conflict={on_conflict}"
        raise InvalidInput(
            f"{option} needs a unique_key", fields={option.partition("=")[0]: "a unique_key is needed"}
        )
    return {"unique_key": key, "unique_for": period or None, "on_conflict": on_conflict or "existing"}


def _deriving(kind: JobType | None, args: bytes, kwargs: bytes) -> Derived:
    """Keys are made of the arguments as they are written: a date is its text, at every door."""
    return lambda by: derived_key(kind.schema if kind else {}, orjson.loads(args), orjson.loads(kwargs), by)


def _options(request: JobRequest) -> bytes | None:
    """What few jobs ask for, as one value; seconds for durations."""
    spans = {"min_backoff": request.min_backoff, "max_backoff": request.max_backoff}
    options: dict[str, Any] = {name: span.total_seconds() for name, span in spans.items() if span is not None}
    if request.message_options:
        options["message"] = request.message_options
    return encode(options, limit=OPTIONS_LIMIT, what="options") if options else None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
