"""`callboard up`: run the whole platform on this machine, in one terminal."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from callboard.cli.console.options import json_option
from callboard.cli.console.output import print_json, rich_text
from callboard.jobs.errors import CallboardError, Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from uuid import UUID

    from callboard.cli.console.processes import Child
    from callboard.config.embedded import EmbeddedServers, ServerUrls
    from callboard.config.settings import Settings
    from callboard.jobs.outage import Outage
    from callboard.jobs.platform import Platform

#: After the grace period, a worker needs this long to kill jobs that do not stop. Seconds.
_KILL_MARGIN: Final = 10.0
#: How long the scheduler may take to stop. Seconds.
_STOP_TIMEOUT: Final = 15.0
#: A check of the stores may take most of this. Seconds.
_READY_TIMEOUT: Final = 3.0
_OK: Final = 200
_LAST_PORT: Final = 65535


@click.command()
@click.option(
    "--reload", is_flag=True, help="For development: restart the workers when the code of the jobs changes."
)
@json_option
def up(*, reload: bool, as_json: bool) -> None:
    """Run the whole platform here: servers, api, scheduler, workers.

    Starts Postgres and Valkey in the data folder unless CALLBOARD_DATABASE_URL and
    CALLBOARD_REDIS_URL are set. The api listens when the workers know their jobs, so
    /readyz answers 200 when everything is ready. Ctrl-C stops everything; a second
    Ctrl-C stops it faster.
    """
    import structlog

    from callboard.cli.console.platform_is_up import ready_message
    from callboard.cli.console.processes import Parent
    from callboard.cli.console.runtime import direct_platform, server_settings
    from callboard.config.embedded import secret_key
    from callboard.config.log_writer import put_text
    from callboard.config.module_folders import check_named
    from callboard.jobs.outage import Outage

    settings = server_settings()
    _check_metrics_ports(settings)
    if reload:
        from callboard.cli.reloading import check_watchfiles

        check_watchfiles()
    port, key = _free_port(settings), secret_key(settings)
    # A worker would refuse this too, but only after the servers have started.
    check_named(settings.jobs)
    with _servers(settings) as (urls, embedded), closing(direct_platform(settings, urls)) as platform:
        platform.migrations.upgrade()
        # A signal is handled between two looks into Postgres.
        platform.database.limits.answer = _READY_TIMEOUT
        address = f"{settings.url_scheme}://{_bracketed(_reachable(settings.host))}:{port}"

        def on_ready() -> None:
            if as_json:
                print_json({"url": address, "pid": os.getpid()})
                sys.stdout.flush()
            else:
                # Between the log lines: the reader of stderr may be slow.
                put_text(rich_text(ready_message(settings, address), stream=sys.stderr))

        # Workers of an earlier run that was killed may still hold leases; they do not count as started.
        earlier = _live_workers(platform)

        down = Outage(structlog.get_logger(__name__), "server.down", "server.up")

        def has_workers() -> bool:
            """Return whether a worker has started: it publishes its job types before it gets a lease."""
            return bool(_live_workers(platform) - earlier)

        parent = Parent(
            _children(
                settings,
                {
                    "CALLBOARD_DATABASE_URL": urls.database_url,
                    "CALLBOARD_REDIS_URL": urls.redis_url,
                    "CALLBOARD_SECRET_KEY": key,
                    "CALLBOARD_PORT": str(port),
                },
                has_workers,
                reload=reload,
            ),
            is_ready=lambda: _answers_ready(address),
            on_ready=on_ready,
            upkeep=lambda: _restart_dead_servers(settings, embedded, down),
        )
        code = parent.run()
    raise click.exceptions.Exit(code)


@contextmanager
def _servers(settings: "Settings") -> "Iterator[tuple[ServerUrls, EmbeddedServers | None]]":
    """Yield the URLs to use, and the embedded servers to keep running (None if both URLs are set)."""
    from callboard.config.embedded import EmbeddedServers, ServerUrls

    if settings.database_url and settings.redis_url:
        direct_url = settings.database_direct_url or ""
        yield ServerUrls(settings.database_url, settings.redis_url, direct_url), None
        return
    embedded = EmbeddedServers(settings.data_dir)
    urls = embedded.ensure(postgres=settings.database_url is None, valkey=settings.redis_url is None)
    try:
        yield (
            ServerUrls(
                settings.database_url or urls.database_url,
                settings.redis_url or urls.redis_url,
                settings.database_direct_url or "",
            ),
            embedded,
        )
    finally:
        embedded.leave()


def _restart_dead_servers(settings: "Settings", embedded: "EmbeddedServers | None", down: "Outage") -> None:
    """Restart an embedded server that died. It has the same URL as before."""
    if embedded is None:
        return
    with down:
        _ensure(settings, embedded)


def _ensure(settings: "Settings", embedded: "EmbeddedServers") -> None:
    """Restart the servers that are down. Raises Unavailable when one cannot be started."""
    failed: list[Unavailable] = []
    for server, given in ((embedded.postgres, settings.database_url), (embedded.valkey, settings.redis_url)):
        if given is None:
            try:
                server.ensure()
            except CallboardError as error:
                # The parent retries in a second. The other processes wait, as in any outage.
                failed.append(Unavailable(error.message))
    if failed:
        raise failed[0]


def _children(
    settings: "Settings", shared: Mapping[str, str], has_workers: Callable[[], bool], *, reload: bool = False
) -> "list[Child]":
    """Return the three processes, in the reverse order of their stop.

    The api loads its modules at once, and listens last: when it answers, the jobs of the workers are known.
    Secrets are passed in the environment, because `ps` shows command lines to every user.
    """
    from callboard.cli.console.processes import Child

    stop_timeouts = {
        "api": settings.stop_delay.total_seconds() + settings.grace.total_seconds() + _KILL_MARGIN,
        "scheduler": _STOP_TIMEOUT,
        "worker": settings.grace.total_seconds() + _KILL_MARGIN,
    }
    # All three serve metrics, each on a port of its own. For port 0, each takes a free one.
    first = settings.metrics_port
    ports = {"worker": first + 1, "api": first + 2} if first else {}
    return [
        Child(
            name,
            # -P: a `callboard` folder in the working directory must not shadow this package
            [
                sys.executable,
                "-P",
                "-m",
                "callboard",
                "run",
                *(["--when-stdin-ends"] * (name == "api")),
                name,
                *(["--reload"] * (reload and name == "worker")),
            ],
            {
                **os.environ,
                **shared,
                **({"CALLBOARD_METRICS_PORT": str(ports[name])} if name in ports else {}),
            },
            stop_timeouts[name],
            has_workers if name == "api" else None,
        )
        for name in ("api", "scheduler", "worker")
    ]


def _check_metrics_ports(settings: "Settings") -> None:
    """Raise InvalidInput unless there are three ports for metrics."""
    if (settings.metrics_port or 0) > _LAST_PORT - 2:
        problem = f"expected at most {_LAST_PORT - 2}: `callboard up` uses this port and the next two"
        raise InvalidInput(
            f"CALLBOARD_METRICS_PORT is {settings.metrics_port}; {problem}",
            fields={"CALLBOARD_METRICS_PORT": problem},
        )


def _free_port(settings: "Settings") -> int:
    """Return the api's port; raise Conflict if it is in use.

    The port is chosen here, also for port 0, because a restarted api must get the same one.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror} (is 'callboard up'"
                " already running? CALLBOARD_PORT sets another port)"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def _answers_ready(address: str) -> bool:
    import ssl
    from http.client import HTTPException
    from urllib.request import urlopen

    # The certificate names another host than this address. No secret is sent, and nothing of the answer used.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    with (
        suppress(OSError, HTTPException),
        urlopen(f"{address}/readyz", timeout=_READY_TIMEOUT, context=context) as answer,  # noqa: S310
    ):
        return bool(answer.status == _OK)
    return False


def _live_workers(platform: "Platform") -> set["UUID"]:
    """Return the ids of the live workers; none while Postgres is away."""
    with suppress(Unavailable):
        return {worker.id for worker in platform.workers.live()}
    return set()


def _reachable(host: str) -> str:
    """Return the address at which a listener on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
