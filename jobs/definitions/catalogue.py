"""The catalogue of the job types that workers published, and the check of arguments against their schemas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from threading import Lock
from typing import Any, Final

import structlog
from jsonschema_rs import ValidationError as SchemaError

from callboard.jobs.definitions import repository
from callboard.jobs.definitions.argument_errors import describe_schema_error, refused
from callboard.jobs.definitions.signatures import compile_schema
from callboard.jobs.errors import InvalidArguments, InvalidInput, NotStorable, UnknownJob
from callboard.jobs.model.basics.call_shape import MOST_FIELDS, Shape
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.json_values import as_written
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.unreadable import RowProblem, quoted
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.postgres.rows.ledger import LEDGER

_FRESH_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class ArgumentChecker:
    """Checks arguments against a published schema; it does not need the function.

    Building it compiles the schema, which is slow: build one for each job type and use it for every call.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        positional_only = frozenset(schema.get("x-positional-only", ()))
        others = schema.get("additionalProperties", True)
        self._shape = Shape(
            positional=tuple(schema.get("x-parameters", ())),
            named=frozenset(schema.get("properties", ())) - positional_only,
            required=tuple(schema.get("required", ())),
            var_positional=bool(schema.get("x-var-positional", False)),
            var_keyword=others is not False,
        )
        # Shape checks the names, so the schema only has to check the values.
        values = {
            key: value for key, value in schema.items() if key not in {"required", "additionalProperties"}
        }
        if isinstance(others, dict):
            values["additionalProperties"] = others
        try:
            self._validator = compile_schema(values)
        except ValueError as error:
            reason = str(error).partition("\n")[0][:200]
            raise InvalidInput(f"the schema that is published for this job is not valid: {reason}") from None

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise InvalidArguments, which names each bad field, unless the job accepts these arguments.

        The values are JSON, or objects that `encode` writes as JSON.
        """
        fields = self._shape.problems(len(args), kwargs)
        if fields:
            raise refused(fields)
        positions: dict[str, str] = {}
        instance = dict(kwargs)
        if args:
            positions = {
                name: f"args[{place}]" for place, name in enumerate(self._shape.positional[: len(args)])
            }
            # When a positional-only name is also given as a keyword, the keyword goes into **kwargs. The
            # schema's property describes the position, so the value of the position is checked.
            by_position = dict(zip(positions, args, strict=False))
            instance = {**by_position, **kwargs, **by_position}
        try:
            errors = self._errors(instance)
        except ValueError:
            # A value is not JSON, such as a datetime or a UUID: check the JSON that `encode` writes.
            try:
                errors = self._errors(as_written(instance))
            except NotStorable as error:
                raise InvalidArguments(error.message, fields=error.fields) from None
        for found in errors:
            field, reason = describe_schema_error(found, positions)
            fields.setdefault(field, reason)
        if fields:
            raise refused(fields)

    def _errors(self, instance: dict[str, Any]) -> list[SchemaError]:
        if self._validator.is_valid(instance):
            return []
        return list(islice(self._validator.iter_errors(instance), MOST_FIELDS))


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job type and the compiled checker of its arguments."""

    type: JobType
    checker: ArgumentChecker


class Catalogue:
    """Looks up job types by name.

    A cached answer is at most 5 seconds old. A name that is not in the cache is always read from the
    database.
    """

    def __init__(self, database: Database, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._known: dict[str, KnownJob] = {}
        self._read_at = float("-inf")

    def get(self, name: str) -> KnownJob:
        """Return the job type of this name. Raises UnknownJob, which suggests the closest name."""
        known = self.find(name)
        if known is None:
            near = get_close_matches(name, self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; is a worker that defines it running?"
            raise UnknownJob(f"no job is called {name[:100]!r}{hint}", fields={"name": "unknown job"})
        return known

    def find(self, name: str) -> KnownJob | None:
        """Return the job type of this name; None when no worker has published it."""
        return self.find_cached(name) or self.find_stored(name)

    def find_cached(self, name: str) -> KnownJob | None:
        """Return what `find` returns without a query; None when it needs one."""
        with self._lock:
            fresh = self._clock.monotonic() - self._read_at < _FRESH_SECONDS
            return self._known.get(name) if fresh else None

    def find_stored(self, name: str) -> KnownJob | None:
        """Return what the database has now."""
        return self._read().get(name)

    def every(self) -> list[JobType]:
        """Read all job types, sorted by name."""
        return [known.type for known in self._read().values()]

    def publish(self, types: Sequence[JobType]) -> None:
        """Store the job types whose code this process has, and create their queues."""

        def write(connection: Connection) -> None:
            repository.publish(connection, types)
            repository.declare(connection, sorted({kind.queue for kind in types}))

        self._database.retrying(write)

    def forget(self) -> None:
        """Empty the cache: the next look-up reads from the database."""
        with self._lock:
            self._known = {}
            self._read_at = float("-inf")

    def _read(self) -> dict[str, KnownJob]:
        """Read all job types and replace the cache.

        The lock is not held while the database answers, so a slow database does not block look-ups in the
        cache.
        """
        with self._database.autocommit() as connection:
            types = repository.every(connection)
        known: dict[str, KnownJob] = {}
        for kind in types:
            old = self._known.get(kind.name)
            # A job type that has not changed keeps its compiled checker.
            compiled = old if old is not None and old.type == kind else _compile(kind)
            if compiled is not None:
                known[kind.name] = compiled
        with self._lock:
            self._known = known
            self._read_at = self._clock.monotonic()
        return known


def _compile(kind: JobType) -> KnownJob | None:
    try:
        return KnownJob(kind, ArgumentChecker(kind.schema))
    except (InvalidInput, TypeError, AttributeError) as error:
        # One row with an invalid schema must not hide the other job types.
        reason = error.message if isinstance(error, InvalidInput) else quoted(str(error))
        LEDGER.report([RowProblem("job_types", kind.name, "schema", reason)])
        return None
