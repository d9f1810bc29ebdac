"""All at once, for minutes: what stores, networks and clocks can do to Callboard, while jobs flow.

A ledger shows at the end that nothing acknowledged was lost and nothing ended twice.

    python -m tests.system.endurance --minutes 10 --seed 1
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import redis

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.client import Client
from callboard.jobs.errors import Unavailable
from callboard.jobs.platform import Platform
from callboard.jobs.schedules.manage import schedule_request
from tests.e2e.stage import Process, Stage, staged, until
from tests.e2e.witness import WITNESS
from tests.silent_postgres import SilentPostgres, silent_postgres
from tests.system.cluster import Cluster, cluster
from tests.system.debian_servers import debian_servers
from tests.system.pgbouncer import PgBouncer, pgbouncer
from tests.system.wall_clock import WallClock, wall_clock

GRACE = 3
#: What a process may take to stop beyond its grace period. Seconds.
FEW_SECONDS = 15
#: Between two disturbances. Seconds.
PAUSE = 4.0
HOSTILE = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "2s",
    "lock_timeout": "1s",
    "idle_session_timeout": "5s",
    "search_path": "pg_temp",
    "extra_float_digits": "-15",
    "synchronous_commit": "off",
    "standard_conforming_strings": "off",
}
ALTERATIONS = (
    "ALTER TABLE callboard.jobs ADD COLUMN IF NOT EXISTS note text",
    "ALTER TABLE callboard.jobs DROP COLUMN IF EXISTS note",
    "ALTER TABLE callboard.queues ADD COLUMN IF NOT EXISTS note text",
    "ALTER TABLE callboard.queues DROP COLUMN IF EXISTS note",
    "REINDEX TABLE callboard.jobs",
    "ANALYZE",
    "VACUUM callboard.jobs",
)


@dataclass
class Ledger:
    """What was acknowledged, and what was refused."""

    #: The door of each acknowledged job.
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def note(self, door: str, ids: list[str], began: float, refusal: str = "") -> None:
        with self._lock:
            self.acknowledged.update(dict.fromkeys(ids, door))
            self.slowest = max(self.slowest, time.monotonic() - began)
            if refusal:
                self.refused[f"{door} {refusal}"] += 1


@dataclass
class Trial:
    """The servers, the processes and the ledger of one run."""

    stage: Stage
    postgres: Cluster
    wires: list[SilentPostgres]
    pooler: PgBouncer
    clock: WallClock
    random: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    processes: dict[str, Process] = field(default_factory=dict)
    stops: list[tuple[str, float]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    failed_over: bool = False

    @property
    def direct_url(self) -> str:
        """Both servers, each behind a wire that can fall silent."""
        parts = urlsplit(self.postgres.url)
        account = parts.netloc.rpartition("@")[0]
        hosts = ",".join(urlsplit(wire.url).netloc.rpartition("@")[2] for wire in self.wires)
        return urlunsplit(parts._replace(netloc=f"{account}@{hosts}"))

    def start(self, name: str) -> None:
        settings: dict[str, Any] = {
            "database_url": self.pooler.url,
            "database_direct_url": self.direct_url,
            "grace": f"{GRACE}s",
            "lease_ttl": "10s",
        }
        extra = self.clock.environment if name != "api" else {}
        if name == "api":
            settings["port"] = 0
        self.processes[name] = self.stage.start(name.rstrip("12"), extra=extra, **settings)

    def stop(self, name: str) -> None:
        process = self.processes[name]
        began = time.monotonic()
        process.send(signal.SIGTERM)
        process.ends(120)
        self.stops.append((name, time.monotonic() - began))

    def api_url(self) -> str:
        return str(until(lambda: self.processes["api"].events("api.listening"), patience=60)[0]["url"])

    def admin(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.postgres.one(int(self.failed_over)), autocommit=True)


def disturbances(trial: Trial) -> list[Callable[[], None]]:
    """What can happen. Each takes seconds, and is over when it returns."""

    def connections_die() -> None:
        for wire in trial.wires:
            wire.hush(new=False)

    def silence() -> None:
        for wire in trial.wires:
            wire.hush(new=True)
        time.sleep(trial.random.uniform(2, 12))
        for wire in trial.wires:
            wire.speak()

    def alter() -> None:
        with suppress(psycopg.Error), trial.admin() as admin:
            admin.execute("SET lock_timeout = '5s'; SET search_path = pg_catalog")
            admin.execute(trial.random.choice(ALTERATIONS).encode())

    def end_sessions() -> None:
        with suppress(psycopg.Error), trial.admin() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' AND random() < 0.5"
            )

    def cancel_statements() -> None:
        with suppress(psycopg.Error), trial.admin() as admin:
            admin.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )

    def clock_jumps() -> None:
        hours = trial.random.choice([-1, 1, 24 * 3653, 0])
        trial.clock.jump(timedelta(hours=hours))

    def worker_dies() -> None:
        name = trial.random.choice(["worker1", "worker2"])
        trial.processes[name].kill_all()
        trial.start(name)

    def process_restarts() -> None:
        name = trial.random.choice(["worker1", "worker2", "scheduler1", "scheduler2"])
        trial.stop(name)
        trial.start(name)

    def stop_in_silence() -> None:
        for wire in trial.wires:
            wire.hush(new=True)
        time.sleep(1)
        name = trial.random.choice(["worker1", "scheduler1"])
        trial.stop(name)
        for wire in trial.wires:
            wire.speak()
        trial.start(name)

    return [
        connections_die, silence, alter, alter, end_sessions, cancel_statements, clock_jumps, worker_dies,
        process_restarts, stop_in_silence,
    ]  # fmt: skip


def fail_over(trial: Trial) -> None:
    trial.postgres.fail_over()
    trial.failed_over = True
    # An operator points the pooler at the new primary.
    trial.pooler.lead_to(trial.postgres.one(1))


def load(trial: Trial, stop: Event, token: str, redis_url: str) -> list[Thread]:
    """Start the threads that enqueue: by HTTP, in Python and in SQL."""
    ledger = trial.ledger

    def by_http() -> None:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=trial.api_url(), headers=headers, timeout=90) as http:
            while not stop.is_set():
                began, body = time.monotonic(), {"name": "ledger", "kwargs": {"n": 1}}
                try:
                    answer = http.post("/v1/jobs", json=body)
                except httpx.HTTPError as error:
                    ledger.note("http", [], began, type(error).__name__)
                    continue
                if answer.status_code == 201:
                    ledger.note("http", [answer.json()["id"]], began)
                else:
                    ledger.note("http", [], began, str(answer.status_code))
                time.sleep(0.02)

    def by_python() -> None:
        with closing(Platform(sqlalchemy_url(trial.pooler.url), redis_url)) as platform:
            client = Client.over(platform)
            while not stop.is_set():
                began = time.monotonic()
                try:
                    many = client.enqueue_many("ledger", [{"n": n} for n in range(5)])
                    late = client.enqueue("ledger", {"n": 6}, delay="3s")
                    ledger.note("python", [str(one) for one in [*many, late.id]], began)
                except Unavailable:
                    ledger.note("python", [], began, "Unavailable")
                time.sleep(0.1)

    def by_sql() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                with trial.admin() as own:
                    # In a session of one's own, this is one's own choice.
                    own.execute("SET synchronous_commit = on")
                    row = own.execute("SELECT callboard.enqueue('ledger', '{\"n\": 9}')").fetchone()
                ledger.note("sql", [str(row[0])] if row else [], began)
            except psycopg.Error as error:
                ledger.note("sql", [], began, str(error.sqlstate))
            time.sleep(0.1)

    threads = [Thread(target=each, daemon=True) for each in (by_http, by_http, by_python, by_sql)]
    for thread in threads:
        thread.start()
    return threads


def judge(trial: Trial) -> list[str]:
    """Return what is wrong at the end."""
    wrong = []
    with trial.admin() as admin:
        states = dict(admin.execute("SELECT state, count(*) FROM callboard.jobs GROUP BY 1").fetchall())
        kept = {
            str(row[0]) for row in admin.execute("SELECT id FROM callboard.jobs WHERE state = 'succeeded'")
        }
        twice = admin.execute(
            "SELECT job, count(*) FROM public.ends GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
        ticks = admin.execute(
            "SELECT count(*) - count(DISTINCT (schedule_id, nominal_at)) FROM callboard.schedule_ticks"
        ).fetchone()
        decided = dict(
            admin.execute("SELECT result, count(*) FROM callboard.schedule_ticks GROUP BY 1").fetchall()
        )
        fired = admin.execute("SELECT count(*) FROM callboard.jobs WHERE source = 'schedule'").fetchone()
    lost = trial.ledger.acknowledged.keys() - kept
    slow = [(name, seconds) for name, seconds in trial.stops if seconds > GRACE + FEW_SECONDS]
    print(f"disturbances: {dict(trial.done)}")
    print(f"acknowledged: {len(trial.ledger.acknowledged):,}; refused: {dict(trial.ledger.refused)}")
    print(f"slowest answer: {trial.ledger.slowest:.1f} s; jobs by state: {states}; by schedule: {fired}")
    print(f"ticks: {decided}")
    print(f"starts: {trial.stage.starts().total():,} of {len(trial.stage.starts()):,} jobs")
    print("stops: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in trial.stops))
    if lost:
        wrong.append(
            f"{len(lost)} acknowledged jobs are lost, such as {min(lost)} ({trial.ledger.acknowledged[min(lost)]})"
        )
    if set(states) != {"succeeded"}:
        wrong.append(f"jobs did not succeed: {states}")
    if twice:
        wrong.append(f"{len(twice)} jobs ended twice, such as {twice[0]}")
    if ticks is None or ticks[0]:
        wrong.append(f"ticks were decided twice: {ticks}")
    if slow:
        wrong.append(f"these took too long to stop: {slow}")
    return wrong


def run(minutes: float, seed: int) -> int:
    with ExitStack() as opened:
        servers = opened.enter_context(debian_servers())
        with redis.Redis.from_url(servers.urls.redis_url) as hints:
            hints.flushall()
        postgres = opened.enter_context(cluster())
        wires = [opened.enter_context(silent_postgres(postgres.one(number))) for number in (0, 1)]
        pooler = opened.enter_context(pgbouncer(postgres.one(0)))
        clock = opened.enter_context(wall_clock())
        platform = opened.enter_context(
            closing(Platform(sqlalchemy_url(postgres.url), servers.urls.redis_url))
        )
        platform.migrations.upgrade()
        with psycopg.connect(postgres.one(0), autocommit=True) as admin:
            admin.execute(WITNESS)
            for name, value in HOSTILE.items():
                written = value if name in {"datestyle", "search_path"} else f"'{value}'"
                admin.execute(f"ALTER ROLE CURRENT_USER SET {name} = {written}".encode())
        platform.database.close()
        stage = opened.enter_context(staged(platform, postgres.url, servers.urls.redis_url))
        trial = Trial(stage, postgres, wires, pooler, clock, random.Random(seed))
        for name in ("scheduler1", "scheduler2", "worker1", "worker2", "api"):
            trial.start(name)
        platform.schedules().create(
            schedule_request({"name": "beat", "job": "ledger", "kwargs": {"n": 1}, "every": "1s"})
        )
        _, token = platform.auth.create("load", "operator")
        stop = Event()
        threads = load(trial, stop, token, servers.urls.redis_url)
        disturb(trial, minutes * 60)
        stop.set()
        for thread in threads:
            thread.join(120)
        trial.clock.jump(timedelta())
        platform.database.close()
        platform.schedules().pause("beat")
        until(lambda: set(stage.states()) == {"succeeded"}, patience=120)
        for name in list(trial.processes):
            trial.stop(name)
        wrong = judge(trial)
    for problem in wrong:
        print(f"WRONG: {problem}")
    print("nothing is wrong" if not wrong else "")
    return bool(wrong)


def disturb(trial: Trial, seconds: float) -> None:
    """Disturb again and again, with a failover after half of the time."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if passed > seconds / 2 and not trial.failed_over:
            fail_over(trial)
            trial.done["failover"] += 1
        else:
            chosen = trial.random.choice(disturbances(trial))
            print(f"{passed:6.1f} s  {chosen.__name__}  {len(trial.ledger.acknowledged):,}", flush=True)
            chosen()
            trial.done[chosen.__name__] += 1
        time.sleep(trial.random.uniform(0.5, PAUSE))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return run(given.minutes, given.seed)


if __name__ == "__main__":
    sys.exit(main())
