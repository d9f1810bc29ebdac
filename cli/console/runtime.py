"""The composition root of the command line: a command gets its settings, servers and services here."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.config.settings import Settings
    from callboard.jobs.platform import Platform
    from callboard.jobs.postgres.database import Database
    from callboard.jobs.schedules.manage import Schedules
    from callboard.jobs.webhooks.intake import Intake


@dataclass(frozen=True, slots=True)
class Runtime:
    """The objects that a command uses: the settings, the servers' URLs and the services."""

    settings: "Settings"
    urls: "ServerUrls"
    platform: "Platform"

    def schedules(self) -> "Schedules":
        return self.platform.schedules()

    def intake(self) -> "Intake":
        from callboard.config.embedded import secret_key

        return self.platform.intake(secret_key(self.settings))


@contextmanager
def open_runtime(*, need_redis: bool = False, direct: bool = False) -> Iterator[Runtime]:
    """Yield the runtime of a command. Start the embedded servers that it needs, and close all at the end.

    Redis carries only hints, so an embedded Valkey is started only with `need_redis`. One that already runs
    is used. direct: the command needs sessions of its own, so it goes round a pooler.
    """
    settings = quiet_settings()
    from callboard.config.embedded import servers

    with (
        servers(settings, need_redis=need_redis) as urls,
        closing((direct_platform if direct else build_platform)(settings, urls)) as platform,
    ):
        yield Runtime(settings, urls, platform)


def build_platform(settings: "Settings", urls: "ServerUrls") -> "Platform":
    """Return the services on these servers."""
    from callboard.config.settings import sqlalchemy_url
    from callboard.jobs.platform import Platform

    return Platform(
        sqlalchemy_url(urls.database_url), urls.redis_url, schema=settings.schema_name, pool_size=2,
        application="callboard cli", app=settings.app, lazy=True,
    )  # fmt: skip


def direct_platform(settings: "Settings", urls: "ServerUrls") -> "Platform":
    """Return the services on sessions of their own; raise InvalidInput if a pooler answers."""
    from callboard.config.settings import sqlalchemy_url
    from callboard.jobs.platform import Platform

    platform = Platform(
        sqlalchemy_url(urls.direct_url), urls.redis_url, schema=settings.schema_name, pool_size=2,
        application="callboard cli", allow_pooler=False, app=settings.app, lazy=True,
    )  # fmt: skip
    platform.database.refuse_pooler()
    return platform


def direct_database(urls: "ServerUrls") -> "Database":
    """Return the database without a pooler between."""
    from callboard.config.settings import sqlalchemy_url
    from callboard.jobs.postgres.database import Database

    return Database(
        sqlalchemy_url(urls.direct_url), pool_size=1, application="callboard cli", allow_pooler=False
    )


def quiet_settings() -> "Settings":
    """Return the settings and configure logging for a short command.

    Its stderr is for its own messages, so the log level is warning unless CALLBOARD_LOG_LEVEL is set.
    """
    return _settings("warning", background=False)


def server_settings(options: Mapping[str, str | int] | None = None) -> "Settings":
    """Return the settings and configure logging for a long-running process: level info unless set.

    options: settings that the command line gives, by key.
    """
    return _settings("info", background=True, options=options)


def _settings(level: str, *, background: bool, options: Mapping[str, str | int] | None = None) -> "Settings":
    from callboard.config.log_writer import Background
    from callboard.config.logging import configure
    from callboard.config.settings import load_settings

    settings = load_settings(options=options)
    chosen = settings.source("log_level") != "default"
    wish = None
    if background:
        from callboard.jobs.metrics import LOG_LINES_DROPPED

        wish = Background(LOG_LINES_DROPPED.inc)
    configure(settings.log_format, settings.log_level if chosen else level, background=wish)
    return settings
