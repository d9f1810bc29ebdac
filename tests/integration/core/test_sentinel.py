"""Sentinel: connections go to the master that it names, and move to the next one after a failover."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.operate.health import HealthChecks
from callboard.jobs.redis.faults import Cause, RedisUnavailable
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT
from callboard.jobs.redis.transport import Transport
from tests.integration.core.factories import until
from tests.integration.core.redis_servers import Watched, watched

ROW = (str(new_id()), 0, 5, 0)


@pytest.fixture
def servers(tmp_path) -> Iterator[Watched]:
    with watched(tmp_path / "servers") as made:
        yield made


def works(transport: Transport) -> bool:
    """Whether every kind of connection works."""
    try:
        transport.check()
        transport.feed("q", [ROW])
        transport.wake([new_id()])
        transport.announce([new_id()])
        transport.pop(["q"], 1, 0.01)
        transport.pop(["empty"], 1, 0)
    except Unavailable:
        return False
    return True


def test_calls_go_to_the_master_that_sentinel_names(servers):
    with closing(Transport(servers.url)) as transport:
        assert works(transport)
        transport.feed("q", [ROW])
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
                    transport.feed("q", [ROW]) and client.zcard("callboard:queue:q")
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


def test_a_demoted_master_is_left_though_the_url_names_it_alone(servers):
    with closing(Transport(servers.master.url)) as transport:
        assert works(transport)
        servers.fail_over()
        until(lambda: not works(transport))
        with pytest.raises(RedisUnavailable) as told:
            transport.feed("q", [ROW])
        assert told.value.cause is Cause.READ_ONLY
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
