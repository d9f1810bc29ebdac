"""The servers of a test run: a Postgres schema and a prefix in Redis for each process of the run.

Without URLs, embedded servers are started in a folder that goes with the run. They write nothing to disk that
must last, so they are fast.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from callboard.config.embedded import EmbeddedServers, ServerUrls
from callboard.config.settings import load_settings, sqlalchemy_url
from callboard.jobs.client import configured_app
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.sessions import session_settings
from callboard.testing import repository
from callboard.testing.replacing import Replacement, replaced

#: A test's worker keeps its lease, however far the clock is moved.
_LEASE: Final = timedelta(days=36_500)


@contextmanager
def run_servers(folder: Path | None = None) -> Iterator[ServerUrls]:
    """Yield the URLs of the servers: those of the settings, or of embedded servers.

    folder: the folder of the embedded servers, which the processes of one run share; a new one by default.

    Raises Unavailable, with what to install, when the embedded servers are not installed.
    """
    settings = load_settings()
    database, cache = settings.database_direct_url or settings.database_url, settings.redis_url
    if database and cache:
        yield ServerUrls(database, cache)
        return
    own = Path(tempfile.mkdtemp(prefix="callboard-tests-")) if folder is None else folder
    own.mkdir(exist_ok=True)
    # Root's Postgres runs as nobody, and needs a way into the folder.
    own.chmod(0o711)
    try:
        embedded = EmbeddedServers(own, durable=False)
        urls = embedded.ensure(postgres=not database, valkey=not cache)
        try:
            yield ServerUrls(database or urls.database_url, cache or urls.redis_url)
        finally:
            embedded.leave()
    finally:
        if folder is None:
            shutil.rmtree(own, ignore_errors=True)


def stop_servers(folder: Path) -> None:
    """Stop embedded servers that a process left behind when it was killed, and remove their folder."""
    try:
        if any(folder.iterdir()):
            EmbeddedServers(folder).stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def migrated_platform(urls: ServerUrls, name: str) -> Iterator[Platform]:
    """Yield a platform over an own schema of these servers, which is removed at the end.

    name: tells the processes of a run apart. The schema is new, so no data of an application is touched.
    """
    schema = f"callboard_test_{name}_{os.getpid()}"[:34]
    with clocked_sessions(schema):
        platform = Platform(
            sqlalchemy_url(urls.database_url), urls.redis_url, schema=schema, lease=_LEASE,
            application="callboard tests", allow_pooler=False, app=configured_app(),
        )  # fmt: skip
        try:
            with platform.database.transaction() as connection:
                repository.drop(connection)
                repository.move_clock(connection, timedelta(0))
            platform.migrations.upgrade()
            with platform.database.transaction() as connection:
                repository.let_functions_use_clock(connection)
            yield platform
        finally:
            try:
                with platform.database.transaction() as connection:
                    repository.drop(connection)
            finally:
                platform.close()


@contextmanager
def clocked_sessions(schema: str) -> Iterator[None]:
    """Let the sessions that this process opens in the block find the clock of a schema before Postgres's."""
    path = f"{repository.clock_schema(schema)}, pg_catalog, pg_temp"
    changed = tuple(
        setting._replace(value=path) if setting.name == "search_path" else setting
        for setting in session_settings.SETTINGS
    )
    with replaced(Replacement(session_settings, "SETTINGS", changed)):
        yield
