"""Compares recorded jobs with what a test expects, and shows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

import dramatiq

from callboard.jobs.dramatiq.job_names import job_name
from callboard.jobs.errors import InvalidInput, NotStorable
from callboard.jobs.model.basics.durations import format_duration, parse_duration
from callboard.jobs.model.basics.json_values import as_written
from callboard.jobs.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE, Job
from callboard.testing.imported_jobs import full_name, known_job, not_imported

_LONGEST_VALUE: Final = 200


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a test expects of a job. None: anything."""

    name: str
    arguments: Mapping[str, Any]
    within: timedelta | None
    after: timedelta | None
    queue: str | None
    priority: int | None
    tags: frozenset[str] | None
    unique_key: str | None

    @classmethod
    def read(
        cls,
        job: Any,
        arguments: Mapping[str, Any],
        *,
        within: str | timedelta | None,
        after: str | timedelta | None,
        tags: Sequence[str] | None,
        **options: Any,
    ) -> Self:
        """Read the arguments of an assertion. Raises InvalidInput for a span or tags that are not valid."""
        if isinstance(tags, str):
            raise _bad("tags", "a list of tags", tags)
        return cls(
            name_of(job), arguments, _span("within", within), _span("after", after),
            tags=None if tags is None else frozenset(tags), **options,
        )  # fmt: skip

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UnknownJob or InvalidInput for a job or an argument that does not exist."""
        known = known_job(self.name)
        if known is None:
            if all(job.name != self.name for job in jobs):
                raise not_imported(self.name)
            return
        properties, others = known.type.schema["properties"], known.type.schema["additionalProperties"]
        for name in self.arguments:
            if name not in properties and others is False:
                takes = ", ".join(properties) or "nothing"
                raise InvalidInput(
                    f"the job {self.name!r} has no argument {name!r}; it takes: {takes}",
                    fields={name: "no such argument"},
                )

    def matches(self, job: Job) -> bool:
        """Return whether the job is as expected."""
        return job.name == self.name and next(self.differences(job), None) is None

    def differences(self, job: Job) -> Iterator[str]:
        """Return what of a job of this name is not as expected, such as "order_id is 8, not 7"."""
        given, delay = arguments_of(job), job.run_at - job.enqueued_at
        for name, value in self.arguments.items():
            if name not in given:
                yield f"{name} is not given"
            elif not _equal(given[name], value):
                yield f"{name} is {_short(given[name])}, not {_short(value)}"
        if self.within is not None and delay > self.within + _ROUNDING:
            yield f"it is due {_after(delay)}, not within {format_duration(self.within)}"
        if self.after is not None and delay < self.after - _ROUNDING:
            yield f"it is due {_after(delay)}, not after {format_duration(self.after)}"
        for name in ("queue", "priority", "unique_key"):
            expected, found = getattr(self, name), getattr(job, name)
            if expected is not None and expected != found:
                yield f"{name} is {found!r}, not {expected!r}"
        missing = sorted((self.tags or set()) - set(job.tags))
        if missing:
            yield f"tags are {job.tags}, without {missing}"

    def closest(self, jobs: Sequence[Job]) -> tuple[int, str] | None:
        """Return the index of the job that is most like this and does not match, and how it differs."""
        found = [
            (index, told)
            for index, job in enumerate(jobs)
            if job.name == self.name and (told := list(self.differences(job)))
        ]
        if not found:
            return None
        index, told = min(found, key=lambda one: len(one[1]))
        return index, "; ".join(told)

    def __str__(self) -> str:
        options = {
            "queue": self.queue, "priority": self.priority, "unique_key": self.unique_key,
            "tags": None if self.tags is None else sorted(self.tags),
        }  # fmt: skip
        shown = [f"{name}={value!r}" for name, value in options.items() if value is not None]
        for word, span in (("within", self.within), ("after", self.after)):
            if span is not None:
                shown.append(f"due {word} {format_duration(span)}")
        return _line(self.name, [f"{name}={_short(value)}" for name, value in self.arguments.items()], shown)


#: The time of an enqueue is known to the millisecond.
_ROUNDING: Final = timedelta(milliseconds=50)


def name_of(job: Any) -> str:
    """Return the name of a job that is given itself or by name. Raises InvalidInput for anything else."""
    if isinstance(job, dramatiq.Actor):
        return job_name(job)
    if isinstance(job, str):
        return full_name(job)
    raise InvalidInput(f"{job!r:.100} is not a job: give the decorated function, or the job's name")


def all_arguments(arguments: Mapping[str, Any] | None, named: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that are given as a mapping and those given by name. Raises InvalidInput."""
    if arguments is not None and not isinstance(arguments, Mapping):
        raise _bad("arguments", "a mapping of names to values", arguments)
    return {**(arguments or {}), **named}


def arguments_of(job: Job) -> dict[str, Any]:
    """Return a job's arguments by name. A default that it was enqueued without is among them."""
    known = known_job(job.name)
    schema: Mapping[str, Any] = known.type.schema if known else {}
    defaults = {
        name: each["default"] for name, each in schema.get("properties", {}).items() if "default" in each
    }
    return {**defaults, **dict(zip(schema.get("x-parameters", ()), job.args, strict=False)), **job.kwargs}


def described(job: Job) -> str:
    """Return a recorded job as one line."""
    given = [_short(value) for value in job.args]
    given += [f"{name}={_short(value)}" for name, value in job.kwargs.items()]
    delay = job.run_at - job.enqueued_at
    facts = [f"queue={job.queue!r}"] * (job.queue != DEFAULT_QUEUE)
    facts += [f"due in {format_duration(_rounded(delay))}"] * (delay > _ROUNDING)
    facts += [f"priority={job.priority}"] * (job.priority != DEFAULT_PRIORITY)
    facts += [f"tags={job.tags}"] * bool(job.tags)
    facts += [f"unique_key={job.unique_key!r}"] * (job.unique_key is not None)
    return _line(job.name, given, facts)


def _line(name: str, arguments: Sequence[str], facts: Sequence[str]) -> str:
    return f"{name}({', '.join(arguments)})" + f" [{', '.join(facts)}]" * bool(facts)


def _equal(stored: Any, expected: Any) -> bool:
    """Return whether a stored value is the expected one, or the JSON that is stored for it."""
    if stored == expected:
        return True
    try:
        return bool(stored == as_written(expected))
    except (NotStorable, ValueError, TypeError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _rounded(span: timedelta) -> timedelta:
    return timedelta(seconds=round(span.total_seconds()))


def _after(delay: timedelta) -> str:
    return f"in {format_duration(_rounded(delay))}" if delay > _ROUNDING else "at once"


def _span(name: str, value: str | timedelta | Any | None) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise _bad(name, "a span such as '1h'", value)
    return parse_duration(value)


def _bad(name: str, form: str, value: Any) -> InvalidInput:
    return InvalidInput(f"{name}: {form} is expected, not {value!r:.60}", fields={name: form})
