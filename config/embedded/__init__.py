"""Embedded Postgres and Valkey from wheels, for one machine. `servers()` yields the URLs that a process uses.

A server is started only if the settings have no URL for it. All commands on one data folder share the
servers: the first command starts them, and the last one to leave stops them. A short command that overlaps
with `callboard up` neither stops its servers nor leaves servers running.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from callboard.config.embedded.folder import make_data_dir
from callboard.config.embedded.secret import secret_key
from callboard.config.settings import Settings
from callboard.jobs.errors import Unavailable

if TYPE_CHECKING:
    from callboard.config.embedded.embedded_server import EmbeddedServer

__all__ = ["EmbeddedServers", "ServerUrls", "secret_key", "servers"]


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """The URLs of the database and of Redis.

    direct_url: the same database without a pooler between, for processes that need sessions of their own.
    """

    database_url: str
    redis_url: str
    direct_url: str = ""

    def __post_init__(self) -> None:
        if not self.direct_url:
            object.__setattr__(self, "direct_url", self.database_url)


class EmbeddedServers:
    """The embedded servers of one data folder. `durable=False` is faster, and for tests only."""

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        # resolved, because every command must compute the same socket path, also through a symbolic link
        self._data_dir = data_dir.resolve()
        from callboard.config.embedded.postgres_server import PostgresServer
        from callboard.config.embedded.valkey_server import ValkeyServer

        # Looked for, because it is imported late.
        if find_spec("psutil") is None:
            raise Unavailable(
                "the embedded servers need psutil, which is not installed: pip install"
                " 'callboard[embedded]', or set CALLBOARD_DATABASE_URL and CALLBOARD_REDIS_URL"
            )
        self.postgres: EmbeddedServer = PostgresServer(self._data_dir / "postgres", durable=durable)
        self.valkey: EmbeddedServer = ValkeyServer(self._data_dir / "valkey")

    @property
    def urls(self) -> ServerUrls:
        """Return the servers' URLs, whether they run or not. A restart does not change them."""
        return ServerUrls(self.postgres.url, self.valkey.url)

    def ensure(self, *, postgres: bool = True, valkey: bool = True) -> ServerUrls:
        """Start the servers that do not run, and register as a user of them until `leave`.

        Raise Unavailable, with the last lines of the server's log, if one does not start.
        """
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
        """Stop using the servers. A server without other users is stopped."""
        try:
            self.valkey.leave()
        finally:
            self.postgres.leave()

    def stop(self) -> None:
        """Stop the servers now, even if other processes use them."""
        try:
            self.valkey.stop()
        finally:
            self.postgres.stop()


@contextmanager
def servers(settings: Settings, *, need_redis: bool = True) -> Iterator[ServerUrls]:
    """Yield the URLs of the settings. For a URL that is unset, start an embedded server and yield its URL.

    The embedded servers run at least until the block ends. Without `need_redis` Valkey is not started; its
    URL is yielded anyway, because it may already run.
    """
    if settings.database_url is not None and settings.redis_url is not None:
        yield ServerUrls(settings.database_url, settings.redis_url, settings.database_direct_url or "")
        return
    embedded = EmbeddedServers(settings.data_dir)
    try:
        urls = embedded.ensure(
            postgres=settings.database_url is None, valkey=settings.redis_url is None and need_redis
        )
        yield ServerUrls(
            settings.database_url or urls.database_url,
            settings.redis_url or urls.redis_url,
            settings.database_direct_url or "",
        )
    finally:
        embedded.leave()
