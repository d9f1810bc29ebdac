"""The composition root of the API process: builds the platform and the app from the settings, then serves."""

from collections.abc import Callable
from typing import Final

from callboard.api.app import SERVERS_OWN, create_app
from callboard.api.http.server import Server
from callboard.config import garbage
from callboard.config.embedded import ServerUrls, secret_key
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.platform import Platform

#: The size of the connection pool. Under load, the pool opens as many again.
_POOL: Final = 10
#: The threads of the routes: one for each connection that the server does not use itself.
_THREADS: Final = 2 * _POOL - SERVERS_OWN


def run(
    settings: Settings, urls: ServerUrls, *, on_listening: Callable[[str], None] = lambda _url: None
) -> int:
    """Serve HTTP until SIGTERM or SIGINT and return the exit code. `on_listening` is called with the URL."""
    platform = Platform(
        sqlalchemy_url(urls.database_url),
        urls.redis_url,
        lease=settings.lease_ttl,
        pool_size=_POOL,
        application="callboard-api",
        enqueue_threads=2,
        schema=settings.schema_name,
    )
    try:
        app = create_app(
            platform, secret_key=secret_key(settings), max_body=settings.max_body, threads=_THREADS
        )
        garbage.settle()
        Server(
            app,
            host=settings.host,
            port=settings.port,
            stop_delay=settings.stop_delay.total_seconds(),
            grace=settings.grace.total_seconds(),
            on_listening=on_listening,
        ).run_until_stopped()
    finally:
        platform.close()
    return 0
