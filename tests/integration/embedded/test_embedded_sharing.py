"""Embedded servers are started once, found and shared by all commands, and survive what is killed."""

import os
import shutil
import signal

import psycopg

from callboard.config.embedded import EmbeddedServers
from callboard.config.embedded.server_processes import alive, wait_until

BOTH = ["postgres", "valkey-server"]


def test_a_second_command_finds_them_and_leaves_them_running(folder, leaders, command):
    first = command(folder)
    assert first.started() == ["postgres", "valkey"]
    second = command(folder)
    assert second.started() == []
    second.end()
    assert leaders(folder) == BOTH
    first.end()
    assert leaders(folder) == []


def test_the_command_that_started_them_may_go_before_another_is_done(folder, leaders, command):
    first = command(folder)
    first.started()
    second = command(folder)
    second.started()
    first.end()
    assert leaders(folder) == BOTH
    second.end()
    assert leaders(folder) == []


def test_after_a_kill_of_the_starter_the_next_command_adopts_them(folder, leaders, command):
    first = command(folder)
    first.started()
    first.kill()
    assert leaders(folder) == BOTH
    second = command(folder)
    assert second.started() == []
    second.end()
    assert leaders(folder) == []


def test_commands_that_start_at_the_same_time_start_one_server(fresh, leaders, command):
    commands = [command(fresh) for _ in range(3)]
    started = [name for it in commands for name in it.started()]
    assert sorted(started) == ["postgres", "valkey"]
    assert leaders(fresh) == BOTH
    for it in commands:
        it.end()
    assert leaders(fresh) == []


def test_killed_servers_are_started_anew_with_their_data(folder, embedded, leaders, command, processes, told):
    urls = embedded.ensure()
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("create table kept as select 7 as number")
    told(processes(folder), lambda process: process.kill())
    it = command(folder)
    assert it.started() == ["postgres", "valkey"]
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("select number from kept").fetchone() == (7,)
    it.end()
    embedded.leave()
    assert leaders(folder) == []


def test_a_killed_postmaster_alone_is_replaced_once_its_children_are_gone(folder, embedded, leaders):
    embedded.ensure(valkey=False)
    pid = int((folder / "postgres/data/postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    assert embedded.postgres.ensure()
    assert leaders(folder) == ["postgres"]


def test_ids_of_a_crashed_server_that_are_another_process_by_now_do_no_harm(folder, embedded):
    embedded.ensure(valkey=False)
    embedded.leave()
    stale = f"{os.getpid()}\n{folder}/postgres/data\n1\n5432\n{folder}/postgres\n\n  1  1\nready\n"
    (folder / "postgres/data/postmaster.pid").write_text(stale)
    (folder / "postgres/.s.PGSQL.5432.lock").write_text(stale)
    assert embedded.postgres.ensure()


def test_a_start_that_was_killed_half_way_through_its_first_time_is_done_over(fresh, leaders):
    embedded = EmbeddedServers(fresh)
    (fresh / "postgres/data.new-0/base").mkdir(parents=True)
    embedded.ensure(valkey=False)
    assert leaders(fresh) == ["postgres"]
    assert not (fresh / "postgres/data.new-0").exists()


def test_servers_of_a_data_folder_that_was_removed_do_not_stand_in_the_way(
    folder, embedded, command, processes
):
    embedded.ensure()
    strays = processes(folder)
    shutil.rmtree(folder)
    it = command(folder)
    assert it.started() == ["postgres", "valkey"]
    assert wait_until(lambda: not any(alive(process) for process in strays), 30)
    it.end()
