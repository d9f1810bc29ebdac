"""Start the HTTP API for a benchmark on a free port."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.arena import Arena


@contextmanager
def api(arena: Arena) -> Iterator[int]:
    """Run `callboard run api` until the block ends. Yield its port on 127.0.0.1 when it answers."""
    port = free_port()
    with arena.callboard("api", port=port) as process:

        def answers() -> bool:
            process.check()
            with closing(connect(port)) as connection:
                try:
                    connection.request("GET", "/healthz")
                    return connection.getresponse().status == http.client.OK
                except OSError:
                    return False

        arena.until(answers, 60.0)
        yield port


def connect(port: int) -> http.client.HTTPConnection:
    """Return a keep-alive connection. Its first request opens it."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
