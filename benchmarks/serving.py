"""The HTTP API of a benchmark: started on a free port, and waited for."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.arena import Arena


@contextmanager
def api(arena: Arena) -> Iterator[int]:
    """`callboard run api` until the block ends; gives its port, on 127.0.0.1, once it answers there."""
    port = _free_port()
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
    """A connection that is opened by its first request, and kept."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=60)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
