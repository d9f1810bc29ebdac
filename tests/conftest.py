"""What all tests share: one Postgres and one Valkey per run, a database and a Redis database per worker.

The servers come from the wheels, in a folder that goes with the run; or from CALLBOARD_TEST_DATABASE_URL (a
role that may create databases) and CALLBOARD_TEST_REDIS_URL. The first test that needs them starts them. A
server that cannot be had is an error, never a skip.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy import text

from callboard.config import log_capture, log_hooks, own_loggers
from callboard.config.embedded import EmbeddedServers, ServerUrls
from callboard.config.settings import sqlalchemy_url
from callboard.jobs.enqueue import pusher
from callboard.jobs.platform import Platform
from callboard.jobs.tables import METADATA

_FOLDER = pytest.StashKey[Path]()
_IN_WORKER = "callboard_servers"
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")


# a busy machine is slow, and what is slow on it may be right
settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure(config: pytest.Config) -> None:
    # started in the background of a shell without job control, SIGINT comes ignored, and every child would
    # inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(config, "workerinput", {}).get(_IN_WORKER)
    if given:
        config.stash[_FOLDER] = Path(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="callboard-tests-"))
    # root's Postgres runs as nobody, and gets through without special powers
    folder.chmod(0o711)
    config.stash[_FOLDER] = folder
    # a run that is terminated tidies up like one that is interrupted
    signal.signal(signal.SIGTERM, signal.default_int_handler)


_LONGEST_ID = 60


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names for cases that are the same in every process, and short: xdist compares them."""
    text_ = repr(val)
    return argname if len(text_) > _LONGEST_ID or " at 0x" in text_ else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput[_IN_WORKER] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _FOLDER not in config.stash:
        return
    folder = config.stash[_FOLDER]
    try:
        if any(folder.iterdir()):
            EmbeddedServers(folder).stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A test that runs a command in this process leaves no log configuration behind."""
    yield
    if sys.excepthook is not sys.__excepthook__ and sys.excepthook.__module__ == log_hooks.__name__:
        log_hooks.uninstall()
    own_loggers.reset()
    log_capture.stop()


@pytest.fixture(autouse=True)
def _pushes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, an enqueue returns when its token is in Redis, also in a burst of enqueues."""
    monkeypatch.setattr(pusher, "_BURST", 0.0)


@pytest.fixture(scope="session")
def server_urls(pytestconfig: pytest.Config) -> Iterator[ServerUrls]:
    """The run's servers: databases and keys in them belong to the fixtures below."""
    database, cache = (os.environ.get(f"CALLBOARD_TEST_{name}_URL") for name in ("DATABASE", "REDIS"))
    if database and cache:
        yield ServerUrls(database, cache)
        return
    embedded = EmbeddedServers(pytestconfig.stash[_FOLDER], durable=False)
    urls = embedded.ensure(postgres=not database, valkey=not cache)
    yield ServerUrls(database or urls.database_url, cache or urls.redis_url)
    embedded.leave()


@pytest.fixture(scope="session")
def database_url(server_urls: ServerUrls) -> Iterator[str]:
    """This worker's own database, made anew, without our schema."""
    name = sql.Identifier(f"callboard_{_WORKER}")
    with psycopg.connect(server_urls.database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
    yield urlunsplit(urlsplit(server_urls.database_url)._replace(path=f"/callboard_{_WORKER}"))
    with psycopg.connect(server_urls.database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def redis_url(server_urls: ServerUrls) -> Iterator[str]:
    """This worker's own Redis database, emptied."""
    number = 0 if _WORKER == "main" else int(_WORKER.removeprefix("gw")) + 1
    base, _, query = server_urls.redis_url.partition("?")
    url = f"{base}?{urlencode(dict(parse_qsl(query)) | {'db': number})}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


# ---- the schema: fixtures that migrate, truncate and build services
# ------------------------------------------------


@pytest.fixture(scope="session")
def migrated(database_url: str, redis_url: str) -> Iterator[Platform]:
    """Services over this worker's database, which has our schema; what earlier tests left is still there."""
    platform = Platform(sqlalchemy_url(database_url), redis_url)
    platform.migrations.upgrade()
    yield platform
    platform.close()


_TABLES = ", ".join(table.fullname for table in METADATA.sorted_tables)


@pytest.fixture
def platform(migrated: Platform, redis_url: str) -> Platform:
    """Services over empty tables and an empty Redis."""
    with migrated.database.transaction() as connection:
        connection.execute(text(f"TRUNCATE {_TABLES}"))
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    migrated.catalogue.forget()
    return migrated
