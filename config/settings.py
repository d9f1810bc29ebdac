"""Every setting of Callboard. Only this module reads settings from the environment.

A setting comes from an option of the command (`--threads`, where it has one), else from the environment
(`CALLBOARD_PORT`), else from `callboard.toml` in the working directory
(`port`), else it has its default. An empty variable counts as unset. `CALLBOARD_TEST_*` belongs to the test
suite and is not read here. Variables that Kubernetes sets for a Service are passed over.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from callboard.config.addresses import read_postgres_url
from callboard.config.kubernetes import is_service_variable
from callboard.config.setting_problems import MAX_SHOWN, bad_value
from callboard.config.setting_types import (
    Address,
    AppName,
    DatabaseUrl,
    DeliveryRetention,
    Duration,
    JobTypeRetention,
    Lowered,
    Modules,
    Objects,
    Port,
    Queues,
    RedisUrl,
    Retention,
    RetentionPeriods,
    SchemaName,
    Size,
    TickRetention,
    TrustedNetworks,
    YesOrNo,
)
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA

Source = Literal["command line", "environment", "callboard.toml", "default"]

PREFIX: Final = "CALLBOARD_"
_TEST_PREFIX: Final = "CALLBOARD_TEST_"
_FILE: Final = "callboard.toml"
_NUMBER_FORM: Final = "a number from 1 to {}"
_PORT_FORM: Final = "a port from 1 to 65535, or 0 for any free port"


class Settings(BaseModel):
    """The settings in force. A field's description says which values it accepts; error messages show it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: DatabaseUrl | None = Field(
        default=None, repr=False, description="a URL such as postgresql://user:password@host:5432/name"
    )
    database_direct_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,
        description="the URL of the same database without a pooler between,"
        " such as postgresql://user:password@host:5432/name",
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        repr=False,
        description="a URL such as redis://host:6379/0, rediss://..., unix:///path or redis+sentinel://...",
    )
    # `schema` is a method of pydantic's BaseModel, so the field has another name than the key.
    schema_name: SchemaName = Field(
        default=DEFAULT_SCHEMA,
        alias="schema",
        description="up to 40 of a-z, 0-9 and _, no digit first, no reserved word, such as callboard",
    )
    data_dir: Path = Field(default=Path(".callboard"), description="the path of a folder")
    jobs: Modules = Field(default=(), description="modules, separated by commas, such as shop.jobs,mail.jobs")
    app: AppName | None = Field(
        default=None,
        description="the namespace of this application's jobs: up to 50 of letters, digits, _ and -, no digit"
        " first, such as billing",
    )
    middleware: Objects = Field(
        default=(),
        description="Dramatiq middleware, each as module:attribute, separated by commas,"
        " such as shop.mw:Sentry,shop.mw:Metrics",
    )
    host: Address = Field(default="127.0.0.1", description="an address to listen on, such as 127.0.0.1")
    port: Port = Field(default=8787, description=_PORT_FORM)
    processes: int = Field(
        default_factory=lambda: min(os.cpu_count() or 1, 256),
        ge=1,
        le=256,
        description=_NUMBER_FORM.format(256),
    )
    fork_server: YesOrNo = Field(default=True, description="true or false")
    threads: int = Field(default=8, ge=1, le=256, description=_NUMBER_FORM.format(256))
    slots: int = Field(default=1024, ge=1, le=4096, description=_NUMBER_FORM.format(4096))
    async_slots: int = Field(default=256, ge=1, le=4096, description=_NUMBER_FORM.format(4096))
    queues: Queues = Field(
        default=(),
        description="names of queues, separated by commas, in order of preference, such as mail,default",
    )
    retention: Retention = Field(
        default=RetentionPeriods(),
        description="one duration (succeeded jobs) or two (succeeded, others), such as 7d or 7d,30d",
    )
    retention_ticks: TickRetention = timedelta(days=30)
    retention_deliveries: DeliveryRetention = timedelta(days=30)
    retention_job_types: JobTypeRetention = timedelta(days=30)
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        max_length=1000,
        description="16 to 1000 characters that nobody can guess",
    )
    metrics_host: Address = Field(
        default="127.0.0.1", description="an address to listen on, such as 127.0.0.1"
    )
    metrics_port: Port | None = Field(default=None, description=_PORT_FORM)
    metrics_open: YesOrNo = Field(default=False, description="true or false")
    log_format: Annotated[Literal["auto", "json", "human"], Lowered] = Field(
        default="auto", description="auto, json or human"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lowered] = Field(
        default="info", description="debug, info, warning or error"
    )
    job_log_level: Annotated[Literal["debug", "info", "warning", "error"], Lowered] = Field(
        default="info", description="debug, info, warning or error"
    )
    result_limit: Size = Field(
        default=256 * 1024,
        ge=1024,
        le=16 * 1024 * 1024,
        description="a size from 1KiB to 16MiB, such as 64KiB or 1MiB",
    )
    grace: Duration = Field(
        default=timedelta(seconds=30),
        le=timedelta(hours=1),
        description="a duration from 0s to 1h, such as 30s",
    )
    stop_delay: Duration = Field(
        default=timedelta(0),
        le=timedelta(minutes=5),
        description="a duration from 0s to 5m, such as 10s",
    )
    lease_ttl: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="a duration from 1s to 1h, such as 30s",
    )
    max_body: int = Field(
        default=1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="a number of bytes from 1024 to 67108864",
    )
    max_connections: int = Field(default=10_000, ge=16, le=60_000, description="a number from 16 to 60000")
    tls_cert: Path | None = Field(default=None, description="the path of a PEM file with the certificates")
    tls_key: Path | None = Field(default=None, description="the path of a PEM file with the private key")
    trusted_proxies: TrustedNetworks = Field(
        default=(),
        description="addresses and networks of your proxies, separated by commas, such as"
        " 10.0.0.5,10.1.0.0/16; not * or another network of all addresses, because any client could then"
        " choose the address that is logged",
    )

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bool(cls, value: object, info: ValidationInfo) -> object:
        # pydantic would read `port = true` in the file as port 1
        is_flag = cls.model_fields[str(info.field_name)].annotation is bool
        if isinstance(value, bool) and not is_flag:
            raise ValueError("must not be true or false")
        return value

    @field_validator("database_direct_url")
    @classmethod
    def _need_database(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("database_url", value) is None:
            raise ValueError("CALLBOARD_DATABASE_URL is not set, and both must lead to the same database")
        return value

    @property
    def url_scheme(self) -> Literal["http", "https"]:
        """Return the scheme of the API's address."""
        return "http" if self.tls_cert is None else "https"

    def came_from(self, sources: Mapping[str, Source]) -> Self:
        """Record by key where each value came from, and return self. Every other key has its default."""
        self._sources.update(sources)
        return self

    def source(self, key: str) -> Source:
        """Return where the value of a key came from."""
        return self._sources.get(key, "default")


#: The field of each setting, by the setting's key.
FIELDS: Final = {field.alias or name: name for name, field in Settings.model_fields.items()}


def load_settings(
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    options: Mapping[str, str | int] | None = None,
) -> Settings:
    """Return the settings in force. Raise InvalidInput that names every unknown key and every bad value.

    options: settings that the command line gives, by key.
    """
    folder = Path.cwd() if cwd is None else cwd
    environment = os.environ if env is None else env
    given: tuple[tuple[Source, dict[str, Any]], ...] = (
        ("callboard.toml", _read_file(folder)),
        ("environment", _read_env(environment)),
        ("command line", dict(options or {})),
    )
    values = {key: value for _, keys in given for key, value in keys.items()}
    sources = {key: source for source, keys in given for key in keys}
    problems: dict[str, str] = {}
    try:
        settings = Settings.model_validate(values, context=environment)
    except ValidationError as error:
        for problem in error.errors():
            key = str(problem["loc"][0])
            name = _name(key, sources[key])
            if name not in problems:
                problems[name] = _problem(key, values[key], sources[key], problem)
        raise InvalidInput("; ".join(problems.values()), fields=problems) from None
    data_dir = (folder / settings.data_dir.expanduser()).absolute()
    return settings.model_copy(update={"data_dir": data_dir}).came_from(sources)


def sqlalchemy_url(url: str) -> str:
    """Return the database's URL for SQLAlchemy: it names the psycopg 3 driver."""
    return read_postgres_url(url).for_sqlalchemy()


def _read_env(env: Mapping[str, str]) -> dict[str, Any]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in env.items()
        if name.startswith(PREFIX)
        and not name.startswith(_TEST_PREFIX)
        and value
        and not is_service_variable(name, value)
    }


def _read_file(folder: Path) -> dict[str, Any]:
    path = folder / _FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", fields={_FILE: str(error)}) from None


def _name(key: str, source: Source) -> str:
    if source == "command line":
        return f"--{key}"
    return f"{_FILE}: {key}"[:MAX_SHOWN] if source == _FILE else (PREFIX + key.upper())[:MAX_SHOWN]


def _problem(key: str, value: object, source: Source, found: ErrorDetails) -> str:
    name = _name(key, source)
    if key in FIELDS:
        return bad_value(name, value, found, expected=Settings.model_fields[FIELDS[key]].description or "")
    close = difflib.get_close_matches(key, FIELDS, n=1)
    hint = f"did you mean {_name(close[0], source)}?" if close else "`callboard config` lists all settings"
    return f"{name} is not a setting ({hint})"
