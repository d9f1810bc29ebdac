"""The composition root of the command line: settings, servers, services; each made when a command needs it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callboard.jobs.errors import InvalidInput

if TYPE_CHECKING:
    from callboard.config.embedded import ServerUrls
    from callboard.config.settings import Settings
    from callboard.jobs.platform import Platform
    from callboard.jobs.schedules.manage import Schedules
    from callboard.jobs.webhooks.intake import Intake


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a command works with."""

    settings: "Settings"
    urls: "ServerUrls"
    platform: "Platform"

    def schedules(self) -> "Schedules":
        from callboard.jobs.schedules.cron import spec_calendar

        return self.platform.schedules(spec_calendar)

    def intake(self) -> "Intake":
        from callboard.config.embedded import secret_key

        return self.platform.intake(secret_key(self.settings))


@contextmanager
def opened(*, need_redis: bool = False) -> Iterator[Runtime]:
    """Everything a command needs, until its block ends; embedded servers are started, or found, on the way.

    Redis carries hints only, so no embedded Valkey is started for a command: one that runs is used.
    """
    settings = quiet_settings()
    from callboard.config.embedded import servers

    with servers(settings, need_redis=need_redis) as urls, closing(build(urls)) as platform:
        yield Runtime(settings, urls, platform)


def build(urls: "ServerUrls") -> "Platform":
    """The services over these servers; raises InvalidInput when a URL cannot be read."""
    from sqlalchemy.exc import ArgumentError

    from callboard.config.settings import sqlalchemy_url
    from callboard.jobs.platform import Platform

    try:
        return Platform(
            sqlalchemy_url(urls.database_url), urls.redis_url, pool_size=2, application="callboard cli"
        )
    except (ArgumentError, ValueError) as error:
        raise InvalidInput(
            f"CALLBOARD_DATABASE_URL or CALLBOARD_REDIS_URL is no usable URL: {error}"
        ) from None


def quiet_settings() -> "Settings":
    """The settings, for a command whose stderr is for its own messages: logs from warnings up, unless asked for."""
    return _settings("warning")


def server_settings() -> "Settings":
    """The settings, for a process that stays."""
    return _settings("info")


def _settings(level: str) -> "Settings":
    from callboard.config.logging import configure
    from callboard.config.settings import load_settings

    settings = load_settings()
    asked = settings.source("log_level") != "default"
    configure(settings.log_format, settings.log_level if asked else level)
    return settings
