"""The composition root of the API process: builds the platform and the app from the settings, then serves."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from prometheus_client import REGISTRY

from callboard.api.app import SERVERS_OWN, create_app
from callboard.api.http.server import Server
from callboard.api.http.tls import tls_context
from callboard.config import garbage
from callboard.config.embedded import ServerUrls, secret_key
from callboard.config.last_resort import end_at_latest
from callboard.config.metrics_server import serving
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.platform import Platform

#: The size of the connection pool. Under load, the pool opens as many again.
_POOL: Final = 10
#: The threads of the routes: one for each connection that the server does not use itself.
_THREADS: Final = 2 * _POOL - SERVERS_OWN
#: While the process stops: how long a statement waits; from the end of the grace period, how long all of them
#: wait, and when the process ends in spite of a thread that hangs. Seconds.
_STOP_ANSWER: Final = 10.0
_LAST_ANSWERS: Final = 1.0
_LAST_RESORT: Final = 6.0


def run(
    settings: Settings,
    urls: ServerUrls,
    *,
    before_listening: Callable[[], object] = lambda: None,
    on_listening: Callable[[str], None] = lambda _url: None,
) -> int:
    """Serve HTTP until SIGTERM or SIGINT and return the exit code.

    before_listening: is called when all is loaded.
    on_listening:     is called with the URL.
    """
    platform = Platform(
        sqlalchemy_url(urls.database_url),
        urls.redis_url,
        lease=settings.lease_ttl,
        pool_size=_POOL,
        application="callboard-api",
        enqueue_threads=2,
        schema=settings.schema_name,
    )
    with ExitStack() as opened:
        opened.callback(platform.close)
        if settings.metrics_port is not None:
            opened.enter_context(serving(settings.metrics_host, settings.metrics_port, REGISTRY))
        app = create_app(
            platform,
            secret_key=secret_key(settings),
            max_body=settings.max_body,
            threads=_THREADS,
            trusted_proxies=settings.trusted_proxies,
            metrics_open=settings.metrics_open,
        )
        delay, grace = settings.stop_delay.total_seconds(), settings.grace.total_seconds()

        def on_stopping() -> None:
            # Running requests end, whatever Postgres does.
            platform.database.hurry(delay + min(grace, _STOP_ANSWER), delay + grace + _LAST_ANSWERS)
            end_at_latest(delay + grace + _LAST_RESORT)

        garbage.settle()
        before_listening()
        Server(
            app,
            host=settings.host,
            port=settings.port,
            stop_delay=delay,
            grace=grace,
            max_connections=settings.max_connections,
            tls=tls_context(settings.tls_cert, settings.tls_key),
            on_listening=on_listening,
            on_stopping=on_stopping,
        ).run_until_stopped()
    return 0
