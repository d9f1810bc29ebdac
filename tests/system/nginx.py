"""Debian's nginx as a private proxy on a loopback port, in front of one API."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.debian_servers import PATIENCE, free_port

# It passes on the headers Upgrade and Connection, as people configure it for websockets.
_CONFIG = """
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
  log_format plain '$status $request';
  access_log {folder}/access.log plain;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  upstream api {{
    server 127.0.0.1:{api_port};
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=512;
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_request_buffering {buffering};
      proxy_buffering {buffering};
      proxy_next_upstream off;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[str]:
        """What its access log has: a status and a request line each."""
        return (self.folder / "access.log").read_text().splitlines()


@contextmanager
def nginx(api_port: int, *, buffering: bool) -> Iterator[Nginx]:
    """Run nginx in front of an API until the block ends. buffering: of requests and of responses."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program is not None, "Debian's package nginx is not installed"
    folder, port = Path(tempfile.mkdtemp(prefix="callboard-nginx-")), free_port()
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            api_port=api_port,
            port=port,
            buffering="on" if buffering else "off",
        )
    )
    log = folder / "error.log"
    process = subprocess.Popen(
        [program, "-p", folder, "-c", config, "-e", log],
        stdin=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Nginx(port, folder)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
