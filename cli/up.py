"""`callboard up`: the whole platform on this machine, in one terminal."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from callboard.cli.console.options import json_option
from callboard.cli.console.output import print_json, print_rich
from callboard.jobs.errors import CallboardError, Conflict, Unavailable

if TYPE_CHECKING:
    from uuid import UUID

    from rich.console import RenderableType

    from callboard.cli.console.processes import Child
    from callboard.config.embedded import EmbeddedServers, ServerUrls
    from callboard.config.settings import Settings
    from callboard.jobs.platform import Platform

#: Beyond the grace period, what a worker needs to kill what does not stop. Seconds.
_LAST_WORDS: Final = 10.0
_STOP_PATIENCE: Final = 15.0
_HEALTH_TIMEOUT: Final = 1.0
_OK: Final = 200


@click.command()
@json_option
def up(*, as_json: bool) -> None:
    """Run everything here: servers, api, scheduler, workers.

    Postgres and Valkey are started in the data folder unless CALLBOARD_DATABASE_URL
    and CALLBOARD_REDIS_URL are set. Ctrl-C stops all of it; twice, faster.
    """
    from callboard.cli.console.processes import Parent
    from callboard.cli.console.runtime import build, server_settings
    from callboard.config.embedded import secret_key

    settings = server_settings()
    port, key = _port(settings), secret_key(settings)
    with _servers(settings) as (urls, embedded), closing(build(urls)) as platform:
        platform.migrations.upgrade()
        address = f"http://{_bracketed(_reachable(settings.host))}:{port}"

        def on_ready() -> None:
            if as_json:
                print_json({"url": address, "pid": os.getpid()})
                sys.stdout.flush()
            else:
                print_rich(_ready_message(settings, address), err=True)

        # Leases of workers that died with an earlier run may still stand.
        earlier = _staff(platform)
        parent = Parent(
            _children(
                settings,
                {
                    "CALLBOARD_DATABASE_URL": urls.database_url,
                    "CALLBOARD_REDIS_URL": urls.redis_url,
                    "CALLBOARD_SECRET_KEY": key,
                    "CALLBOARD_PORT": str(port),
                },
            ),
            is_ready=lambda: _healthy(_reachable(settings.host), port) and bool(_staff(platform) - earlier),
            on_ready=on_ready,
            upkeep=lambda: _keep_up(settings, embedded),
        )
        code = parent.run()
    raise click.exceptions.Exit(code)


@contextmanager
def _servers(settings: "Settings") -> "Iterator[tuple[ServerUrls, EmbeddedServers | None]]":
    """The servers to work with, and those of them that are ours to keep up."""
    from callboard.config.embedded import EmbeddedServers, ServerUrls

    if settings.database_url and settings.redis_url:
        yield ServerUrls(settings.database_url, settings.redis_url), None
        return
    embedded = EmbeddedServers(settings.data_dir)
    urls = embedded.ensure(postgres=settings.database_url is None, valkey=settings.redis_url is None)
    try:
        yield (
            ServerUrls(settings.database_url or urls.database_url, settings.redis_url or urls.redis_url),
            embedded,
        )
    finally:
        embedded.leave()


def _keep_up(settings: "Settings", embedded: "EmbeddedServers | None") -> None:
    """Start an embedded server that has died anew; its URL stays."""
    if embedded is None:
        return
    import structlog

    for server, given in ((embedded.postgres, settings.database_url), (embedded.valkey, settings.redis_url)):
        if given is None:
            try:
                server.ensure()
            except CallboardError as error:
                # Looked at again in a second; the others wait for it as they do for any outage.
                structlog.get_logger(__name__).warning("server.down", reason=error.message)


def _children(settings: "Settings", shared: Mapping[str, str]) -> "list[Child]":
    """The three processes, the first to stop at the end. What is secret goes by environment, where `ps` has no eyes."""
    from callboard.cli.console.processes import Child

    patience = {
        "api": _STOP_PATIENCE,
        "scheduler": _STOP_PATIENCE,
        "worker": settings.grace.total_seconds() + _LAST_WORDS,
    }
    # Both serve metrics: the worker's are one port up.
    metrics = settings.metrics_port
    ports = {"worker": metrics + 1} if metrics else {}
    return [
        Child(
            name,
            # -P: a package of the working folder that is called as one of ours must not take its place
            [sys.executable, "-P", "-m", "callboard", "run", name],
            {
                **os.environ,
                **shared,
                **({"CALLBOARD_METRICS_PORT": str(ports[name])} if name in ports else {}),
            },
            patience[name],
        )
        for name in ("api", "scheduler", "worker")
    ]


def _port(settings: "Settings") -> int:
    """The api's port, made sure to be free: restarts must find it again, and a taken one be told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror} (is 'callboard up' running"
                " already? CALLBOARD_PORT sets another)"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def _healthy(host: str, port: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    with suppress(OSError, HTTPException):
        connection = HTTPConnection(host, port, timeout=_HEALTH_TIMEOUT)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == _OK
        finally:
            connection.close()
    return False


def _staff(platform: "Platform") -> set["UUID"]:
    """The workers that are there: before there is one, its jobs are not known."""
    with suppress(Unavailable):
        return {worker.id for worker in platform.workers.live()}
    return set()


def _reachable(host: str) -> str:
    """Where a listener on this address is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ready_message(settings: "Settings", address: str) -> "RenderableType":
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 3, 0, 0))
    facts.add_column(style="bright_black", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("api", Text(address, style="bold cyan"))
    facts.add_row(
        "database", "as CALLBOARD_DATABASE_URL says" if settings.database_url else "Postgres, embedded"
    )
    facts.add_row("redis", "as CALLBOARD_REDIS_URL says" if settings.redis_url else "Valkey, embedded")
    if not (settings.database_url and settings.redis_url):
        facts.add_row("data", str(settings.data_dir))
    facts.add_row("jobs", ", ".join(settings.jobs) or "those that ship; CALLBOARD_JOBS adds yours")
    facts.add_row("workers", f"{settings.processes} processes of {settings.threads} threads")
    steps = Table.grid(padding=(0, 3, 0, 0))
    steps.add_column(style="bold", no_wrap=True)
    steps.add_column(style="bright_black")
    steps.add_row("callboard key create me --role admin", "a key for HTTP")
    steps.add_row("callboard job enqueue NAME --args '{...}'", "a job; --wait waits for it")
    steps.add_row("callboard job list", "what became of it")
    return Group(
        Text("\nCallboard is up.", style="bold green"),
        Padding(facts, (1, 0, 1, 2)),
        Text("In another terminal, in this folder:"),
        Padding(steps, (1, 0, 1, 2)),
        Text("Ctrl-C stops everything; a second one hurries.\n", style="bright_black"),
    )
