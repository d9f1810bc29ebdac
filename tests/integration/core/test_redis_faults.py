"""Whatever is wrong with Redis: jobs are accepted and claimed, one line of the log and `doctor` name the cause
and the remedy, and readiness is degraded.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from callboard.api.readiness import ReadinessCheck, ReadyStatus
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.operate.health import Check, HealthChecks
from callboard.jobs.platform import Platform
from callboard.jobs.redis.faults import Cause, FaultLog, RedisUnavailable, told
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT
from callboard.jobs.redis.transport import Transport
from callboard.scheduler.feeder import Feeder
from tests.e2e.sick_redis import refusing, sick_redis
from tests.integration.core.factories import FakeClock, enqueue, execution, until, url_of
from tests.integration.core.redis_servers import RedisServer, free_port, redis_server

Sick = Callable[[Path], AbstractContextManager[str]]


def with_settings(*settings: str, account: str = "", number: int = 0) -> Sick:
    """A real server with these settings; the URL names this account and database."""

    @contextmanager
    def run(folder: Path) -> Iterator[str]:
        with redis_server(folder, *settings) as server:
            yield f"redis://{account}127.0.0.1:{server.port}/{number}"

    return run


@contextmanager
def master_down(folder: Path) -> Iterator[str]:
    settings = ["replicaof 127.0.0.1 1", "replica-serve-stale-data no"]
    with redis_server(folder, *settings) as server:
        yield server.url


@contextmanager
def cannot_save(folder: Path) -> Iterator[str]:
    with redis_server(folder) as server, server.admin() as client:
        client.config_set("save", "3600 1")
        # Nothing can be created there.
        (folder / "dump.rdb").mkdir()
        client.set("x", "1")
        with suppress(redis.RedisError):
            client.save()
        with suppress(redis.RedisError):
            client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield server.url


def in_cluster() -> list[str]:
    return ["cluster-enabled yes", f"cluster-port {free_port()}"]


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A node of a cluster that has all slots but one."""
    with redis_server(folder, *in_cluster()) as server:
        with server.admin() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: re.search(r"cluster_state\W+ok", str(client.execute_command("CLUSTER INFO"))))
        yield server.url


def answering(answer: bytes, *, read_first: bool = True) -> Sick:
    """A server that is not Redis, or that refuses every client: it sends this text and closes."""

    @contextmanager
    def run(_: Path) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))

        def answer_one(client: socket.socket) -> None:
            with client, suppress(OSError):
                if read_first:
                    client.recv(65536)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                # A reset could overtake the answer.
                while client.recv(65536):
                    pass

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=answer_one, args=(client,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)

    return run


@contextmanager
def cluster_without_slots(folder: Path) -> Iterator[str]:
    with redis_server(folder, *in_cluster()) as server:
        yield server.url


@contextmanager
def without_tls(folder: Path) -> Iterator[str]:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")(folder) as url:
        yield url.replace("redis://", "rediss://")


def refusing_all(line: str) -> Sick:
    """A server that answers each command with this error."""

    @contextmanager
    def run(_: Path) -> Iterator[str]:
        with socket.socket(socket.AF_UNIX) as behind:
            behind.bind(f"\0callboard-{new_id()}")
            behind.listen()
            with sick_redis(behind.getsockname().decode()) as proxy:
                proxy.answer = refusing(line)
                yield proxy.url

    return run


DENIED = b"-DENIED Valkey is running in protected mode because protected mode is enabled and no password is set\r\n"
SICK: dict[str, tuple[Sick, Cause]] = {
    "full": (with_settings("maxmemory 1"), Cause.FULL),
    "without_password": (with_settings("requirepass secret"), Cause.LOGIN),
    "wrong_password": (with_settings("requirepass secret", account=":other@"), Cause.LOGIN),
    "wrong_user": (with_settings("requirepass secret", account="nobody:secret@"), Cause.LOGIN),
    "no_database": (with_settings(number=99), Cause.NO_DATABASE),
    "renamed_eval": (with_settings('rename-command EVAL ""'), Cause.NO_COMMAND),
    "renamed_set": (with_settings("rename-command SET other"), Cause.NO_COMMAND),
    "replica": (with_settings("replicaof 127.0.0.1 1"), Cause.READ_ONLY),
    "master_down": (master_down, Cause.MASTER_DOWN),
    "too_few_replicas": (with_settings("min-replicas-to-write 1"), Cause.TOO_FEW_REPLICAS),
    "cannot_save": (cannot_save, Cause.CANNOT_SAVE),
    "cluster": (cluster, Cause.CLUSTER),
    "cluster_without_slots": (cluster_without_slots, Cause.CLUSTER),
    "protected": (answering(DENIED, read_first=False), Cause.PROTECTED),
    "loading": (refusing_all("LOADING Valkey is loading the dataset in memory"), Cause.LOADING),
    "moved": (refusing_all("MOVED 3999 127.0.0.1:6381"), Cause.CLUSTER),
    "too_many": (answering(b"-ERR max number of clients reached\r\n"), Cause.TOO_MANY_CLIENTS),
    "http": (answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), Cause.NOT_REDIS),
    "ssh": (answering(b"SSH-2.0-OpenSSH_9.9\r\n", read_first=False), Cause.NOT_REDIS),
    "odd": (refusing_all("WHAT is this"), Cause.REFUSED),
    "without_tls": (without_tls, Cause.TLS),
}


def of_redis(platform: Platform, url: str) -> list[Check]:
    checks = HealthChecks(platform.database, url, platform.migrations).checks()
    return [check for check in checks if check.name == "redis"]


@pytest.mark.parametrize("how", SICK)
def test_jobs_run_and_the_cause_and_the_remedy_are_named_when_redis_is(platform, tmp_path, how):
    make, cause = SICK[how]
    with make(tmp_path / "server") as url, closing(Platform(url_of(platform), url)) as sick:
        with capture_logs() as log:
            jobs = [job for _ in range(3) for job in enqueue(sick)]
            feeder = Feeder(sick, SYSTEM)
            for call in (feeder.round, feeder.round, sick.transport.check, sick.transport.check):
                with suppress(Unavailable):
                    call()
            with execution(sick) as worker:
                assert {job.id for job in worker.claim_oldest("reports", 9)} == set(jobs)
        lines = [one for one in log if one["event"] == "redis.refused"]
        assert {(one["cause"], one["remedy"]) for one in lines} >= {(cause, cause.remedy)}
        # Such a replica refuses reads and writes in different words.
        others = {one["cause"] for one in lines} - {cause}
        assert others <= ({Cause.READ_ONLY} if cause is Cause.MASTER_DOWN else set())
        # What differs by command is told once per command.
        assert len(lines) == 1 or cause in {Cause.NO_COMMAND, Cause.REFUSED, Cause.MASTER_DOWN}
        assert len({one["reason"] for one in lines}) == len(lines)
        assert not [one for one in log if one["log_level"] == "error"]
        [check] = of_redis(platform, url)
        assert (check.status, check.mend) == ("warn", cause.remedy)
        if how != "renamed_eval":
            readiness = asyncio.run(ReadinessCheck(sick).current())
            assert (readiness.status, readiness.degraded) == (ReadyStatus.DEGRADED, ["redis"])


def test_an_error_of_a_pipeline_is_told_without_the_command():
    error = redis.ResponseError(f"Command # 1 (ZADD {'x' * 500}) of pipeline caused error: MISCONF no disk")
    assert told(error).cause is Cause.CANNOT_SAVE
    assert told(error).message.endswith(": MISCONF no disk")


@pytest.mark.parametrize("rest", ["run this command or subcommand", "access at least one of the keys"])
def test_a_missing_right_in_a_script_is_told_in_the_words_of_redis_7_0(rest):
    assert told(redis.ResponseError(f"The user executing the script can't {rest} script: 9f")).cause is (
        Cause.NO_RIGHT
    )


def test_a_server_without_auth_does_not_bring_the_password_into_the_log_and_doctor(platform, tmp_path):
    make = with_settings('rename-command AUTH ""', account="app:hunter2@")
    with make(tmp_path / "server") as url, closing(Transport(url)) as transport:
        with (
            pytest.raises(RedisUnavailable, match=r"unknown command 'AUTH'$") as caught,
            capture_logs() as log,
        ):
            transport.check()
        assert caught.value.cause is Cause.NO_COMMAND
        assert "hunter2" not in str([log, of_redis(platform, url)])


def test_every_cause_has_a_remedy():
    assert all(cause.remedy for cause in Cause)


def test_a_cause_is_logged_again_only_after_ten_minutes_without_it():
    clock = FakeClock()
    faults = FaultLog(clock=clock)
    full = RedisUnavailable("full", cause=Cause.FULL)
    with capture_logs() as log:
        for _ in range(5):
            faults.put(full, "push")
            faults.put(full, "feed")
            clock.advance(500)
        assert len(log) == 1
        clock.advance(101)
        faults.put(full, "push")
        assert len(log) == 2
        faults.put(RedisUnavailable("away"), "push")
        for number in range(500):
            faults.put(RedisUnavailable(str(number), cause=Cause.REFUSED), "push")
    assert len(log) == 101


# ---- what a healthy server does to its clients ----


@pytest.fixture
def server(tmp_path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "server") as made:
        yield made


def test_a_server_that_closes_idle_connections_does_no_harm(platform, server):
    with server.admin() as client, closing(Platform(url_of(platform), server.url)) as made:
        client.config_set("timeout", 1)
        with capture_logs() as log:
            announcements = made.transport.announcements()
            for _ in range(2):
                enqueue(made)
                made.transport.check()
                made.transport.depth("reports")
                assert len(made.transport.pop(["reports"], 9, 0.1)) == 1
                # Only the subscription and this connection are left.
                until(lambda: len(client.client_list()) <= 2)
            announcements.next(0.01)
            announcements.close()
        assert [one for one in log if one["event"].startswith("redis.")] == []


def test_what_is_evicted_is_fed_again_and_doctor_names_the_policy(platform, server):
    with server.admin() as client, closing(Platform(url_of(platform), server.url)) as made:
        client.config_set("maxmemory-policy", "allkeys-lru")
        enqueue(made, 3)
        client.delete("callboard:queue:reports")
        assert Feeder(made, SYSTEM).round() == 3
        [check] = of_redis(made, server.url)
        assert check.status == "warn"
        assert "evicts keys" in check.message


def test_doctor_names_values_of_other_programs(platform, server):
    with server.admin() as client, closing(Platform(url_of(platform), server.url)) as made:
        enqueue(made)
        client.delete("callboard:queue:reports")
        client.set("callboard:queue:reports", "mine")
        [check] = of_redis(made, server.url)
        assert check.message == "the key callboard:queue:reports has a value of another program (type string)"
        made.transport.depth("reports")
        [check] = of_redis(made, server.url)
        assert "its value is now in callboard:foreign:queue:reports:1" in check.message
        client.delete("callboard:foreign:queue:reports:1")
        assert of_redis(made, server.url)[0].status == "ok"


def test_wrong_keys_are_counted_though_another_program_wrote_the_counts_key(platform, server):
    with server.admin() as client, closing(Platform(url_of(platform), server.url)) as made:
        failures = made.auth_failures()
        with closing(failures):
            client.set("callboard:auth-failures:7", "mine")
            assert failures._shared.add("10.0.0.1", 7) == 1
            assert failures._shared.add("10.0.0.1", 7) == 2
        assert client.get("callboard:foreign:auth-failures:7:1") == "mine"


# ---- a server that is frozen ----

FROZEN: dict[str, Callable[[Platform], object]] = {
    "push": enqueue,
    "feed": lambda made: made.transport.feed("q", FeedTokens(1, "0 x:0")),
    "wake": lambda made: made.transport.wake([new_id()]),
    "pop": lambda made: made.transport.pop(["q"], 1, 0.5),
    "take": lambda made: made.transport.take(["q"], [1], worker=new_id()),
    "depth": lambda made: made.transport.depth("q"),
    "forget": lambda made: made.transport.forget("q"),
    "announce": lambda made: made.transport.announce([new_id()]),
    "listened_to": lambda made: made.transport.listened_to(),
    "announcements": lambda made: made.transport.announcements(),
    "check": lambda made: made.transport.check(),
    "count": lambda made: made.auth_failures().count("10.0.0.1"),
    "mark": lambda made: made.key_sharing.mark(),
    "doctor": lambda made: of_redis(made, made._redis_url),
}


@pytest.mark.parametrize("call", FROZEN)
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "new"])
def test_a_frozen_server_delays_no_call_for_more_than_a_moment(platform, server, call, connected):
    with closing(Platform(url_of(platform), server.url)) as made:
        if connected:
            with suppress(Unavailable):
                FROZEN[call](made)
        with server.frozen():
            began = SYSTEM.monotonic()
            with suppress(Unavailable):
                FROZEN[call](made)
            # Far more than it takes, and far less than without a timeout.
            assert SYSTEM.monotonic() - began < (50 * CALL_TIMEOUT)


def test_a_host_with_many_addresses_that_do_not_answer_delays_a_call_only_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as opened:
        place = full.getsockname()
        # What fills the queue of connections; further ones get no answer.
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place)] * 200
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses)
        with closing(Transport(f"redis://127.0.0.1:{place[1]}/0")) as transport:
            began = SYSTEM.monotonic()
            with pytest.raises(RedisUnavailable):
                transport.check()
            # Each address for the time of a call would be twice as long.
            assert SYSTEM.monotonic() - began < 100 * CALL_TIMEOUT


def test_a_subscription_to_a_frozen_server_goes_on_when_it_is_back(server):
    with closing(Transport(server.url)) as transport, closing(transport.announcements()) as heard:
        with server.frozen():
            assert heard.next(0.1) == set()
        until(transport.listened_to)
