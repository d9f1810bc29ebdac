"""Sentinel: connections go to the master that it names, and move to the next one after a failover."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.operate.health import HealthChecks
from callboard.jobs.redis.faults import Cause, RedisUnavailable
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT
from callboard.jobs.redis.transport import Transport
from tests.integration.core.factories import until
from tests.integration.core.redis_servers import Watched, free_port, watched
from tests.integration.core.test_redis_faults import answering

TOKENS = FeedTokens(1, f"0 {new_id()}:0")


@pytest.fixture
def servers(tmp_path) -> Iterator[Watched]:
    with watched(tmp_path / "servers") as made:
        yield made


def works(transport: Transport) -> bool:
    """Whether every kind of connection works."""
    try:
        transport.check()
        transport.feed("q", TOKENS)
        transport.wake([new_id()])
        transport.announce([new_id()])
        transport.pop(["q"], 1, 0.01)
        transport.pop(["empty"], 1, 0)
    except Unavailable:
        return False
    return True


def cause_of(transport: Transport) -> Cause | None:
    """Return the cause of a failed write; None if it did not fail."""
    try:
        transport.feed("q", TOKENS)
    except RedisUnavailable as error:
        return error.cause
    return None


def test_calls_go_to_the_master_that_sentinel_names(servers):
    with closing(Transport(servers.url)) as transport:
        assert works(transport)
        transport.feed("q", TOKENS)
        with servers.master.admin() as client:
            assert client.zcard("callboard:queue:q") == 1


def test_connections_move_to_the_new_master_after_a_failover(servers):
    with closing(Transport(servers.url)) as transport:
        assert works(transport)
        announcements = transport.announcements()
        servers.fail_over()
        with servers.replica.admin() as client:

            def reaches_new_master() -> bool:
                # What is written to the old master, until it is demoted, is lost.
                return works(transport) and bool(
                    transport.feed("q", TOKENS) and client.zcard("callboard:queue:q")
                )

            until(reaches_new_master)
            assert client.info("replication")["role"] == "master"
        announcements.close()
        heard, job = transport.announcements(), new_id()
        with closing(heard):
            until(lambda: transport.announce([job]) > 0)
            until(lambda: heard.next(0.2) == {job})


@pytest.mark.parametrize("how", ["dies", "freezes"])
def test_connections_move_when_the_master(servers, how):
    with closing(Transport(servers.url)) as transport:
        assert works(transport)
        if how == "dies":
            servers.master.process.kill()
            until(lambda: works(transport))
        else:
            with servers.master.frozen():
                until(lambda: works(transport))
        assert servers.master_port() == servers.replica.port


@pytest.mark.long
def test_a_demoted_master_is_left_though_the_url_names_it_alone(servers):
    with closing(Transport(servers.master.url)) as transport:
        assert works(transport)
        servers.fail_over()
        # First it may end its connections.
        until(lambda: cause_of(transport) is Cause.READ_ONLY)
        # it is made the master again: the same process goes on
        with servers.master.admin() as client:
            client.replicaof("NO", "ONE")
        until(lambda: works(transport))


def test_a_sentinel_that_is_frozen_or_gone_is_passed_over(tmp_path):
    with watched(tmp_path / "servers", sentinels=3) as servers:
        servers.sentinels[1].process.kill()
        with servers.sentinels[0].frozen(), closing(Transport(servers.url)) as transport:
            until(lambda: works(transport))
            began = SYSTEM.monotonic()
            with closing(Transport(servers.url)) as fresh:
                until(lambda: works(fresh))
            assert SYSTEM.monotonic() - began < 50 * CALL_TIMEOUT


def named(host: str, port: int | str) -> bytes:
    """Return a Sentinel's answer with this address."""
    parts = (host.encode(), str(port).encode())
    return b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


WRONG_ANSWERS: dict[str, Callable[[Watched], bytes]] = {
    "a replica": lambda servers: named("127.0.0.1", servers.replica.port),
    "a port where nothing listens": lambda _: named("127.0.0.1", free_port()),
    "a port that is no number": lambda _: named("127.0.0.1", "x"),
    "a host alone": lambda _: b"*1\r\n$9\r\n127.0.0.1\r\n",
    "a text": lambda _: b"+OK\r\n",
    "a number": lambda _: b":1\r\n",
    "HTTP": lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_a_sentinel_that_does_not_name_the_master_is_passed_over(servers, tmp_path, answer):
    with answering(WRONG_ANSWERS[answer](servers))(tmp_path) as wrong:
        first = f"127.0.0.1:{wrong.rpartition(':')[2].removesuffix('/0')}"
        url = servers.url.replace("sentinel://", f"sentinel://{first},")
        with closing(Transport(url)) as transport:
            until(lambda: works(transport))
            transport.feed("q", TOKENS)
        with servers.master.admin() as client:
            assert client.zcard("callboard:queue:q") == 1


def test_an_unknown_service_and_sentinels_that_are_gone_are_told_apart_from_redis(servers, platform):
    with closing(Transport(servers.url.replace("/main/", "/other/"))) as transport:
        with pytest.raises(RedisUnavailable, match="Sentinel names no master: unknown service other") as told:
            transport.check()
        assert told.value.cause is Cause.NO_MASTER
    servers.sentinels[0].process.kill()
    servers.sentinels[0].process.wait()
    with (
        closing(Transport(servers.url)) as transport,
        pytest.raises(RedisUnavailable, match=r"Sentinel names no master: .*Connection refused"),
    ):
        transport.check()
    checks = HealthChecks(platform.database, servers.url, platform.migrations).checks()
    [found] = [check for check in checks if check.name == "redis"]
    assert (found.status, found.mend) == ("warn", Cause.NO_MASTER.remedy)


def test_master_and_sentinel_have_their_own_passwords(servers):
    with redis.Redis(port=servers.sentinels[0].port) as client:
        client.execute_command(
            "ACL", "SETUSER", "watch", "on", ">w@tch", "-@all", "+sentinel|get-master-addr-by-name"
        )
        client.execute_command("ACL", "SETUSER", "default", "resetpass", "-@all")
    with servers.master.admin() as client:
        client.execute_command(
            "ACL", "SETUSER", "app", "on", ">p@ss", "~callboard:*", "&callboard:*", "+@all"
        )
        client.execute_command("ACL", "SETUSER", "default", "-@all", "+ping", "+psync", "+replconf", "+info")
    own = servers.url.replace("://", "://app:p%40ss@")
    with closing(Transport(f"{own}?sentinel_username=watch&sentinel_password=w%40tch")) as transport:
        assert works(transport)
    with (
        closing(Transport(own)) as transport,
        pytest.raises(RedisUnavailable, match="names no master") as told,
    ):
        transport.check()
    assert "p@ss" not in told.value.message
