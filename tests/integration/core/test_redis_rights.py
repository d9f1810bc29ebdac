"""A Redis user with exactly the rights that are documented can do all that Callboard does; one right less is
named.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from callboard.jobs.access.auth_failures import MOST_FAILURES
from callboard.jobs.errors import RateLimited, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.operate.health import HealthChecks
from callboard.jobs.platform import Platform
from callboard.jobs.redis.faults import RedisUnavailable
from callboard.jobs.redis.queue_tokens import read_token
from callboard.jobs.redis.rights import COMMANDS
from callboard.jobs.redis.transport import WAKE
from callboard.scheduler.feeder import Feeder
from tests.integration.core.factories import enqueue, execution, states, until, url_of
from tests.integration.core.redis_servers import RedisServer, redis_server

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "redis.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("rights") / "server") as made:
        yield made


@pytest.fixture
def user(server, platform) -> Iterator[str]:
    """The URL of a user with exactly the documented rights."""
    with server.admin() as client:
        client.flushall()
        client.execute_command("ACL", "LOG", "RESET")
        client.execute_command(*documented())
        yield server.url.replace("://", "://callboard:secret@")
        client.execute_command("ACL", "DELUSER", "callboard")


def documented() -> list[str]:
    [line] = re.findall(r"ACL SETUSER callboard (.*?)```", PAGE.read_text(), re.DOTALL)
    return ["ACL", "SETUSER", "callboard", *line.replace("\\\n", " ").replace("PASSWORD", "secret").split()]


def grant(server: RedisServer, *rules: str) -> None:
    with server.admin() as client:
        client.execute_command("ACL", "SETUSER", "callboard", *rules)


def refused(server: RedisServer) -> set[str]:
    with server.admin() as client:
        return {str(entry["object"]) for entry in client.acl_log()}


def of_redis(platform: Platform, url: str) -> list[tuple[str, str]]:
    checks = HealthChecks(platform.database, url, platform.migrations).checks()
    return [(check.status, check.message) for check in checks if check.name == "redis"]


def test_the_documented_rights_are_those_of_the_check_and_no_more():
    granted = {word[1:] for word in documented() if word.startswith("+")}
    assert granted == set(COMMANDS)
    assert "-@all" in documented()


def test_a_user_with_the_documented_rights_can_do_all_that_callboard_does(server, user, platform):
    with closing(Platform(url_of(platform), f"{user[:-1]}1")) as made, capture_logs() as told:
        transport = made.transport
        jobs = enqueue(made, 3, queue="a")

        with execution(made) as worker:
            raw = transport.take(["b", "a"], [1, 2], worker=worker.worker)
            raw += transport.pop(["b", "a"], 9, 0.1, worker=worker.worker)
            tokens = [token for token in map(read_token, raw) if token]
            assert {job.id for job in worker.claim(tokens)} == set(jobs)
            transport.wake([worker.worker])
            assert transport.pop(["b"], 1, 0, worker=worker.worker) == [WAKE]
        enqueue(made, 1, queue="a", delay="1h")
        Feeder(made, SYSTEM).round()
        assert transport.depth("a") == 0
        transport.forget("a")
        waited = enqueue(made)[0]
        with made.waiting.listen(waited, lambda: None):
            until(transport.listened_to)
            made.control.cancel(waited)
        assert made.waiting.wait(waited, timedelta(seconds=30)).state == "cancelled"
        transport.check()
        assert made.key_sharing.mark() == []
        failures = made.auth_failures()
        with closing(failures):
            for _ in range(MOST_FAILURES):
                failures.count("10.0.0.1")
            with pytest.raises(RateLimited):
                failures.count("10.0.0.1")
        with server.admin() as client:
            client.select(1)
            client.set("callboard:queue:a", "mine")
        assert transport.depth("a") == 0
        assert of_redis(made, f"{user[:-1]}1")[0][0] in {"ok", "warn"}
    assert refused(server) == set()
    assert [one["event"] for one in told if one["log_level"] != "debug"].count("redis.refused") == 0


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"select", "unsubscribe"}))
def test_doctor_names_a_command_that_is_not_allowed(server, user, platform, command):
    grant(server, f"-{command}")
    [(status, message)] = of_redis(platform, user)
    assert (status, message) == ("warn", f"the Redis user lacks rights: command {command}")


def test_doctor_names_what_is_missing_before_it_can_begin(server, user, platform):
    grant(server, "-select")
    [(status, message)] = of_redis(platform, f"{user[:-1]}1")
    assert status == "warn"
    assert "'select' command" in message


ALL_KEYS = "keys callboard:queue:*, keys callboard:wake:*, keys callboard:auth-failures:*, keys callboard:owners, keys callboard:check, keys callboard:foreign:*"


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["resetkeys", "~callboard:queue:*"], ALL_KEYS.removeprefix("keys callboard:queue:*, ")),
        (["resetkeys", "%R~callboard:*"], ALL_KEYS),
        (["resetkeys", "~callboard2:*"], ALL_KEYS),
        (["resetchannels"], "channel callboard:finished"),
        (["-zadd", "-eval", "resetchannels"], "command eval, command zadd, channel callboard:finished"),
    ],
)
def test_doctor_names_keys_and_channels_that_are_not_allowed(server, user, platform, rules, missing):
    grant(server, *rules)
    assert of_redis(platform, user) == [("warn", f"the Redis user lacks rights: {missing}")]


def test_doctor_changes_nothing(server, user, platform):
    with server.admin() as client:
        assert of_redis(platform, user)[0][0] == "ok"
        until(lambda: client.keys("*") == [])


#: What the scheduler, a waiting client and a worker do.
CALLS: list[Callable[[Platform], object]] = [
    lambda made: Feeder(made, SYSTEM).round(),
    lambda made: made.transport.announcements().close(),
    lambda made: made.transport.pop(["reports"], 1, 0.01),
]


@pytest.mark.parametrize(
    "rules", [["-eval"], ["-zadd"], ["-bzmpop", "-zmpop"], ["resetkeys"], ["-subscribe"]]
)
def test_a_missing_right_is_logged_once_and_jobs_run(server, user, platform, rules):
    grant(server, *rules)
    with closing(Platform(url_of(platform), user)) as made, capture_logs() as told:
        jobs = [job for _ in range(3) for job in enqueue(made, 2)]
        for _ in range(3):
            for call in CALLS:
                with suppress(RedisUnavailable):
                    call(made)
        with execution(made) as worker:
            assert {job.id for job in worker.claim_oldest("reports", 10)} == set(jobs)
        assert set(states(made, jobs)) == {"running"}
    lines = [(one["operation"], one["reason"]) for one in told if one["event"] == "redis.refused"]
    assert len(lines) == len(set(lines)) >= 1
    assert {one["cause"] for one in told if one["event"] == "redis.refused"} == {"no_right"}


def test_a_user_that_may_not_move_a_foreign_value_leaves_it_and_works_without_the_key(server, user, platform):
    grant(server, "-renamenx")
    with server.admin() as client:
        client.set("callboard:queue:reports", "mine")
        with closing(Platform(url_of(platform), user)) as made:
            [job] = enqueue(made)
            with pytest.raises(Unavailable, match="lacks a right"):
                made.transport.depth("reports")
            with execution(made) as worker:
                assert [each.id for each in worker.claim_oldest("reports", 10)] == [job]
        assert client.get("callboard:queue:reports") == "mine"
