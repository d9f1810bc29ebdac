"""The catalogue of the job types that workers published, and the check of arguments against their schemas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from callboard.jobs.definitions import repository
from callboard.jobs.definitions.argument_errors import refused
from callboard.jobs.definitions.counted import count
from callboard.jobs.definitions.name_hints import name_hint
from callboard.jobs.definitions.own_code import OWN_CODE
from callboard.jobs.errors import InvalidArguments, InvalidInput, NotStorable, UnknownJob
from callboard.jobs.model.basics.call_shape import MOST_FIELDS, Shape
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.json_values import as_written
from callboard.jobs.model.job_type import JobType, JobVersion, PublishedVersion
from callboard.jobs.model.request import JobRequest
from callboard.jobs.model.unreadable import RowProblem, quoted
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.postgres.rows.ledger import LEDGER

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError as SchemaError

_FRESH_SECONDS: Final = 5.0


class ArgumentChecker:
    """Checks arguments against a published schema; it does not need the function.

    Building it compiles the schema, which is slow: build one for each job type and use it for every call.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        from callboard.jobs.definitions.schema_validator import compile_schema

        positional_only = frozenset(schema.get("x-positional-only", ()))
        others = schema.get("additionalProperties", True)
        self._shape = Shape(
            positional=tuple(schema.get("x-parameters", ())),
            named=frozenset(schema.get("properties", ())) - positional_only,
            required=tuple(schema.get("required", ())),
            var_positional=bool(schema.get("x-var-positional", False)),
            var_keyword=others is not False,
        )
        if not self._shape.named.union(self._shape.positional).issuperset(self._shape.required):
            raise InvalidInput("the schema that is published for this job requires what it does not describe")
        # Shape checks the names, so the schema only has to check the values.
        checked_by_shape = {"required", "additionalProperties"}
        values = {key: value for key, value in schema.items() if key not in checked_by_shape}
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
        if errors:
            from callboard.jobs.definitions.schema_errors import describe_schema_errors

            raise refused(describe_schema_errors(errors, positions))

    def _errors(self, instance: dict[str, Any]) -> "list[SchemaError]":
        if self._validator.is_valid(instance):
            return []
        return list(islice(self._validator.iter_errors(instance), MOST_FIELDS))


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A version of a job type and the compiled checker of its arguments."""

    type: JobType
    checker: ArgumentChecker


Versions = tuple[KnownJob, ...]


class Catalogue:
    """Looks up job types by name, and chooses the version that an enqueue gets.

    The code that this process has decides alone. Without it, the versions that live workers published count,
    the newest first. With no live worker, those count that were published or seen last.

    A cached answer is at most 5 seconds old. A name that is not in the cache is always read from the
    database, and so is a name whose cached versions refuse the arguments.
    """

    def __init__(self, database: Database, *, app: str | None = None, clock: Clock = SYSTEM) -> None:
        self._database = database
        self.app = app
        self._clock = clock
        self._lock = Lock()
        self._known: dict[str, Versions] = {}
        self._read_at = float("-inf")
        #: By name: the actor, and its definition. None: no job can be made of it.
        self._own: dict[str, tuple[Any, KnownJob | None]] = {}

    def in_app(self, request: JobRequest) -> JobRequest:
        """Return the request with the full name of its job."""
        name = self.full_name(request.name)
        return request if name == request.name else request.model_copy(update={"name": name})

    def full_name(self, name: str) -> str:
        """Return the name with this application's namespace, if there is such a job; else the name."""
        if self.app is None or name.startswith(f"{self.app}."):
            return name
        own = f"{self.app}.{name}"
        if self._own_code(own):
            return own
        with self._lock:
            known = self._known if self._is_fresh() else None
        return own if own in (self._read() if known is None else known) else name

    def get(self, name: str) -> Versions:
        """Return the versions that count, at least one. Raises UnknownJob, which suggests a close name."""
        versions = self.find(name)
        if not versions:
            hint = name_hint(name, self._known, "is a worker that defines it running?")
            raise UnknownJob(f"no job is called {name[:100]!r}; {hint}", fields={"name": "unknown job"})
        return versions

    def find(self, name: str) -> Versions:
        """Return the versions that count, the newest first; empty when none is known."""
        own = self._own_code(name)
        if own is not None:
            return (own,)
        return self.find_cached(name) or self.find_stored(name)

    def find_cached(self, name: str) -> Versions:
        """Return the published versions that count without a query; empty when it needs one."""
        with self._lock:
            return self._known.get(name, ()) if self._is_fresh() else ()

    def find_stored(self, name: str) -> Versions:
        """Return the published versions that count now."""
        return self._read().get(name, ())

    def choose(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> KnownJob:
        """Return the first version that accepts the arguments. Raises UnknownJob or InvalidArguments."""
        versions = self.get(name)
        try:
            return _first_accepting(versions, args, kwargs)
        except InvalidArguments:
            stored = () if self._own_code(name) else self.find_stored(name)
            if not stored or stored == versions:
                raise
        return _first_accepting(stored, args, kwargs)

    def choose_cached(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, unchecked: bool
    ) -> KnownJob | None:
        """Return what `choose` (unchecked: `preferred`) returns without a query; None when it needs one."""
        own = self._own_code(name)
        versions = self.find_cached(name) if own is None else (own,)
        if not versions:
            return None
        if unchecked and len(versions) == 1:
            return versions[0]
        try:
            return _first_accepting(versions, args, kwargs)
        except InvalidArguments:
            return versions[0] if unchecked else None

    def preferred(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> KnownJob | None:
        """Return the version whose defaults an unchecked enqueue gets; None when the job is not known.

        It is the first that accepts the arguments, or the newest.
        """
        known = self.choose_cached(name, args, kwargs, unchecked=True)
        if known is not None or not self.find_stored(name):
            return known
        return self.choose_cached(name, args, kwargs, unchecked=True)

    def versions(self, name: str | None = None) -> list[JobVersion]:
        """Read all versions, or those of a name: by name, the newest first."""
        with self._database.autocommit() as connection:
            return repository.every(connection, name)

    def publish(self, types: Sequence[JobType], *, announced: bool = False) -> list[PublishedVersion]:
        """Store the job types whose code this process has, and create their queues.

        announced: make these versions the newest, and let them count as live for a day without a worker.
        """

        def write(connection: Connection) -> list[PublishedVersion]:
            published = repository.publish(connection, types, announced=announced)
            repository.declare(connection, sorted({kind.queue for kind in types}))
            return published

        published = self._database.retrying(write)
        count(published)
        return published

    def forget(self) -> None:
        """Empty the cache: the next look-up reads from the database."""
        with self._lock:
            self._known = {}
            self._read_at = float("-inf")

    def _is_fresh(self) -> bool:
        return self._clock.monotonic() - self._read_at < _FRESH_SECONDS

    def _own_code(self, name: str) -> KnownJob | None:
        """Return the job as the code of this process defines it; None when it does not have the code."""
        broker = OWN_CODE.holder.global_broker
        # An actor may have the bare name of its job.
        actor = (
            None if broker is None else broker.actors.get(name) or broker.actors.get(name.partition(".")[2])
        )
        if actor is None:
            return None
        found = self._own.get(name)
        if found is None or found[0] is not actor:
            # This takes milliseconds, so it is done once for each actor.
            kind = OWN_CODE.type_of(actor, name)
            found = self._own[name] = (
                actor,
                None if kind is None else KnownJob(kind, ArgumentChecker(kind.schema)),
            )
        return found[1]

    def _read(self) -> dict[str, Versions]:
        """Read the versions that count and replace the cache.

        The lock is not held while the database answers, so a slow database does not block look-ups in the
        cache.
        """
        with self._database.autocommit() as connection:
            found = repository.every(connection, current=True)
        known: dict[str, Versions] = {}
        for version in found:
            name = version.type.name
            # A version that has not changed keeps its compiled checker.
            same = [old for old in self._known.get(name, ()) if old.type == version.type]
            compiled = same[0] if same else _compile(version.type)
            if compiled is not None:
                known[name] = (*known.get(name, ()), compiled)
        with self._lock:
            self._known = known
            self._read_at = self._clock.monotonic()
        return known


def _first_accepting(versions: Versions, args: Sequence[Any], kwargs: Mapping[str, Any]) -> KnownJob:
    refusal: InvalidArguments | None = None
    for known in versions:
        try:
            known.checker.check(args, kwargs)
        except InvalidArguments as error:
            refusal = refusal or error
        else:
            return known
    if refusal is None:
        raise ValueError("there is at least one version")
    if len(versions) > 1:
        more = f"; this is about the newest of {len(versions)} versions in use, and no other accepts the call"
        raise InvalidArguments(f"{refusal.message}{more}", fields=refusal.fields)
    raise refusal


def _compile(kind: JobType) -> KnownJob | None:
    try:
        return KnownJob(kind, ArgumentChecker(kind.schema))
    except (InvalidInput, TypeError, AttributeError) as error:
        # One row with an invalid schema must not hide the other job types.
        reason = error.message if isinstance(error, InvalidInput) else quoted(str(error))
        LEDGER.report([RowProblem("job_versions", kind.name, "schema", reason)])
        return None
