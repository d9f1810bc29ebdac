"""`callboard db`, `config`, `doctor`, and what every command does when a service is away."""

import re
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.postgres.locks import LEADER, try_lock
from callboard.jobs.postgres.migrating import Migrations
from callboard.jobs.postgres.schema import SchemaStatus

NOWHERE = "postgresql://127.0.0.1:1/x"


@pytest.fixture
def empty(callboard, database_url):
    """The commands, on a database without tables."""
    database = f"callboard_empty_{new_id().hex[-8:]}"
    name = sql.Identifier(database)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        callboard.settings["database_url"] = urlunsplit(urlsplit(database_url)._replace(path=f"/{database}"))
        yield callboard
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def checks(outcome) -> dict[str, str]:
    return {check["name"]: check["status"] for check in outcome.json["checks"]}


def test_the_tables_are_made_and_removed(empty):
    before = empty("db", "status")
    assert (before.code, before.out) == (1, "none\n")
    assert before.err.endswith("run 'callboard db upgrade'\n")
    assert empty("db", "upgrade", "--json").json["up_to_date"] is True
    assert empty("db", "status").err == "the tables are up to date\n"
    assert empty("job", "list").code == 0
    assert empty("db", "downgrade", "base", "--yes", "--json").json["current"] is None


def test_without_tables_a_command_says_how_to_make_them(empty):
    outcome = empty("job", "list")
    assert (outcome.code, outcome.error) == (
        7,
        "the database has no Callboard tables yet; run 'callboard db upgrade'",
    )


def test_a_version_that_is_not_there_is_bad_input(empty):
    empty("db", "upgrade")
    outcome = empty("db", "downgrade", "nope", "--yes")
    assert outcome.code == 2
    assert outcome.error.startswith("there is no schema version 'nope'")


def test_a_downgrade_asks_on_a_terminal(empty, monkeypatch):
    empty("db", "upgrade")
    monkeypatch.setattr("callboard.cli.console.output.interactive", lambda: True)
    outcome = empty("db", "downgrade", "base", stdin="n\n")
    assert outcome.code == 1
    assert outcome.err.startswith("remove all tables and every job? [y/N]: ")
    assert empty("db", "status", "--json").json["up_to_date"] is True


@pytest.mark.parametrize(
    "command",
    [
        ["job", "list"],
        ["job", "show", "01a204f3-1779-7083-a62d-f85f810aa57a"],
        ["job", "cancel", "--state", "queued", "--yes"],
        ["queue", "list"],
        ["schedule", "list"],
        ["webhook", "source", "list"],
        ["worker", "list"],
        ["key", "list"],
        ["db", "status"],
        ["db", "upgrade"],
    ],
)
def test_without_a_database_every_command_exits_with_7(callboard, command):
    outcome = callboard(*command, database_url=NOWHERE)
    assert (outcome.code, outcome.out) == (7, "")
    assert outcome.error.startswith("Postgres does not answer at 127.0.0.1:1/x: ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prot": "1"}, "CALLBOARD_PROT is not a setting (did you mean CALLBOARD_PORT?)"),
        ({"port": "high"}, "CALLBOARD_PORT is 'high'; expected a port from 1 to 65535"),
        (
            {"database_url": "mysql://x"},
            "CALLBOARD_DATABASE_URL is not usable: it does not start with postgresql://",
        ),
        (
            {"database_url": "postgresql://h:port/x"},
            "CALLBOARD_DATABASE_URL is not usable: its port is not a number from 1 to 65535",
        ),
        (
            {"redis_url": "redis://h:port"},
            "CALLBOARD_REDIS_URL is not usable: its port is not a number from 1 to 65535",
        ),
    ],
)
def test_settings_that_do_not_fit_are_bad_input(callboard, settings, said):
    outcome = callboard("queue", "list", **settings)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith(said)


def test_a_source_without_a_secret_key_is_bad_input(callboard):
    outcome = callboard("webhook", "source", "list", secret_key="")
    assert outcome.code == 2
    assert outcome.error.startswith("CALLBOARD_SECRET_KEY is required together with CALLBOARD_DATABASE_URL")


def test_config_shows_where_each_value_came_from_and_no_secret(callboard, tmp_path):
    (tmp_path / "callboard.toml").write_text('host = "0.0.0.0"\n')
    given = {"database_url": "postgresql://u:geheim@h/x", "port": "9999"}
    lines = {line["key"]: line for line in callboard("config", "--json", **given).json["items"]}
    assert (lines["CALLBOARD_PORT"]["value"], lines["CALLBOARD_PORT"]["source"]) == ("9999", "environment")
    assert (lines["CALLBOARD_HOST"]["value"], lines["CALLBOARD_HOST"]["source"]) == (
        "0.0.0.0",
        "callboard.toml",
    )
    assert lines["CALLBOARD_THREADS"]["source"] == "default"
    table = callboard("config", **given)
    assert table.code == 0
    assert "geheim" not in table.out
    assert callboard.settings["secret_key"] not in table.out
    assert all(len(line) <= 80 for line in table.out.splitlines())


def test_doctor_finds_nothing_wrong_where_nothing_is(callboard, platform, worker):
    Path("doctored.py").write_text("import dramatiq\n\n@dramatiq.actor\ndef doctored():\n    print(1)\n")
    with closing(platform.database.engine.connect()) as leader:
        assert try_lock(leader, LEADER)
        outcome = callboard("doctor", "--json", jobs="doctored")
    assert (outcome.code, outcome.json["ok"]) == (0, True)
    assert checks(outcome) == dict.fromkeys(
        ["settings", "modules", "postgres", "tables", "redis", "storage", "scheduler", "workers"], "ok"
    )
    told = {check["name"]: check["message"] for check in outcome.json["checks"]}
    assert told["modules"] == "1 job from doctored"
    assert re.fullmatch(r"the largest tables: (\w+ [\d.]+ MiB \(about \d+ rows\)(, )?){3}", told["storage"])


OWN_RETRIES = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries

class Own(Retries):
    def after_process_message(self, *_, **__): ...

@dramatiq.actor(broker=StubBroker(middleware=[Own()]))
def tried(): ...

print("what a module prints is no part of the answer")
"""


@pytest.mark.parametrize(
    ("source", "status", "told"),
    [
        ("import dramatiq", "fail", "but no job is defined there"),
        ("import nowhere_at_all", "fail", "the module 'tried_here' cannot be imported"),
        ("import os; os._exit(7)", "fail", "the import of tried_here ended its process with exit code 7"),
        (OWN_RETRIES, "warn", "a worker does not honour Own.after_process_message: Callboard does the work"),
    ],
)
def test_doctor_imports_the_modules_as_a_worker_does(callboard, source, status, told):
    Path("tried_here.py").write_text(source)
    outcome = callboard("doctor", "--json", jobs="tried_here")
    assert outcome.code == (status == "fail")
    found = [check for check in outcome.json["checks"] if told in check["message"]]
    assert [check["status"] for check in found] == [status]
    assert found[0]["mend"]


def test_doctor_names_what_nobody_leads_runs_or_knows(callboard, worker, platform, enqueued):
    enqueued()
    callboard("job", "enqueue", "lost", "--unchecked", "--queue", "far")
    platform.queues.pause("mail")
    outcome = callboard("doctor", "--json")
    assert outcome.code == 0
    assert checks(outcome) == {
        "settings": "ok", "modules": "warn", "postgres": "ok", "tables": "ok", "redis": "ok", "storage": "ok",
        "scheduler": "warn", "workers": "ok", "jobs": "warn", "paused": "warn",
    }  # fmt: skip
    told = {check["name"]: check["message"] for check in outcome.json["checks"]}
    assert told["jobs"] == "jobs are queued that no live worker defines: lost (1)"
    assert told["paused"] == "paused queues: mail"
    assert all(check["mend"] for check in outcome.json["checks"] if check["status"] != "ok")


def test_doctor_says_how_many_jobs_wait_to_run_alone(callboard, platform, worker, enqueued):
    enqueued()
    with platform.database.transaction() as connection:
        connection.execute(text("UPDATE callboard.jobs SET solo = true"))
    told = {check["name"]: check["message"] for check in callboard("doctor", "--json").json["checks"]}
    assert told["suspects"] == (
        "jobs wait for their run alone, because workers died while they ran: build_report (1)"
    )


def test_doctor_names_queues_that_no_worker_serves(callboard, platform, worker, enqueued):
    platform.workers.end(worker.id, [])
    worker.id = new_id()
    worker.register(queues=("mail",))
    enqueued()
    told = {check["name"]: check["message"] for check in callboard("doctor", "--json").json["checks"]}
    assert told["queues"] == "jobs are queued where no worker serves: reports (1)"


def test_doctor_fails_without_tables_or_a_database_and_warns_without_redis(callboard, empty):
    assert checks(empty("doctor", "--json"))["tables"] == "fail"
    away = callboard("doctor", "--json", database_url=NOWHERE, redis_url="redis://127.0.0.1:1")
    assert away.code == 1
    assert away.json["ok"] is False
    assert (checks(away)["postgres"], checks(away)["redis"]) == ("fail", "warn")


def test_doctor_passes_without_redis_because_jobs_are_accepted_and_run(callboard):
    outcome = callboard("doctor", "--json", redis_url="redis://127.0.0.1:1")
    assert (outcome.code, checks(outcome)["redis"]) == (0, "warn")


def test_doctor_warns_of_tables_that_are_newer_than_the_program(callboard, monkeypatch):
    monkeypatch.setattr(Migrations, "status", lambda _: SchemaStatus("9999", "0001"))
    outcome = callboard("doctor", "--json")
    assert (outcome.code, checks(outcome)["tables"]) == (0, "warn")


def test_doctor_for_people_has_a_line_for_each_check_and_a_mend_below(callboard):
    outcome = callboard("doctor", database_url=NOWHERE)
    lines = outcome.out.splitlines()
    assert outcome.code == 1
    assert "ok    settings    read" in lines
    assert any(line.startswith("fail  postgres    Postgres does not answer") for line in lines)
    assert any(line.strip() == "start Postgres, or correct CALLBOARD_DATABASE_URL" for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_doctor_reports_settings_that_do_not_fit(callboard):
    outcome = callboard("doctor", "--json", port="high")
    assert outcome.code == 1
    assert checks(outcome) == {"settings": "fail"}


def test_doctor_names_a_module_of_jobs_that_is_not_found(callboard):
    outcome = callboard("doctor", "--json", jobs="no_such_module.jobs")
    told = {check["name"]: (check["status"], check["message"]) for check in outcome.json["checks"]}
    assert told["modules"] == ("fail", "CALLBOARD_JOBS names modules that are not found: no_such_module.jobs")
