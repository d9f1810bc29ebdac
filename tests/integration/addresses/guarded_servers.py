"""Postgres and Valkey as people have them: on TCP and a socket, with users whose passwords need encoding, and a
TLS proxy in front of each.
"""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg import sql

from callboard.config.embedded.postgres_server import PostgresServer
from callboard.config.embedded.valkey_server import ValkeyServer

USER = "app@shop"
PASSWORD = "p@s:s/w#r%d +&=?"
DATABASE = "shop jobs"
#: USER and PASSWORD as they stand in a URL.
ACCOUNT = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
_HBA = """
local all callboard peer map=callboard
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_CHUNK = 65_536


class GuardedPostgres(PostgresServer):
    """The embedded Postgres, with TCP, and with passwords for all but the user of the operating system."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, durable=False)
        self.port = free_port()
        type(self).socket_name = f".s.PGSQL.{self.port}"

    @property
    def url(self) -> str:
        return f"postgresql://callboard@/callboard?host={quote(str(self.socket_folder), safe='')}&port={self.port}"

    def _prepare(self) -> None:
        super()._prepare()
        (self.folder / "pg_hba.conf").write_text(_HBA)

    def _command(self) -> Sequence[str]:
        return [*super()._command(), "-c", "listen_addresses=127.0.0.1,::1", "-c", f"port={self.port}"]


class GuardedValkey(ValkeyServer):
    """The embedded Valkey, with TCP."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    def _command(self) -> Sequence[str]:
        return [*super()._command(), "--port", str(self.port), "--bind", "127.0.0.1", "::1"]


@dataclass(frozen=True)
class GuardedServers:
    """Where the servers are, for the tests to write URLs."""

    postgres_folder: Path
    postgres_port: int
    postgres_tls_port: int
    valkey_socket: Path
    valkey_port: int
    valkey_tls_port: int
    #: The certificate of the authority that both TLS proxies have theirs from.
    authority: Path


@contextmanager
def guarded_servers(folder: Path) -> Iterator[GuardedServers]:
    """Run the servers until the block ends. USER owns DATABASE; Valkey's user `default` is off."""
    postgres, valkey = GuardedPostgres(folder / "postgres"), GuardedValkey(folder / "valkey")
    with ExitStack() as running:
        for server in (postgres, valkey):
            running.callback(server.stop)
            server.ensure()
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(USER), sql.Literal(PASSWORD)
                )
            )
            admin.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(USER))
            )
        with redis.Redis.from_url(valkey.url) as client:
            client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
            client.execute_command("ACL", "SETUSER", "default", "off")
        authority, context = _certificates(folder)
        ports = [
            running.enter_context(_tls_proxy(context, server.port, handshake))
            for server, handshake in ((postgres, _accept_postgres), (valkey, _accept))
        ]
        yield GuardedServers(
            postgres.socket_folder,
            postgres.port,
            ports[0],
            valkey.socket_folder / valkey.socket_name,
            valkey.port,
            ports[1],
            authority,
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Write the certificate of an authority; return its path, and a context with one for `localhost`."""
    now, names = dt.datetime.now(dt.UTC), [x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name(names)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, key_file = folder / "authority.pem", folder / "key.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key_file)
    return authority, context


Handshake = Callable[[socket.socket, ssl.SSLContext], ssl.SSLSocket]


def _accept(client: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(client, server_side=True)


def _accept_postgres(client: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Begin TLS as Postgres does: the client asks for it in clear text."""
    assert client.recv(len(_SSL_REQUEST), socket.MSG_WAITALL) == _SSL_REQUEST
    client.sendall(b"S")
    return _accept(client, context)


@contextmanager
def _tls_proxy(context: ssl.SSLContext, target: int, handshake: Handshake) -> Iterator[int]:
    """Take TLS connections to `localhost` and relay them to a port; yield the proxy's port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=relay, args=(client,), daemon=True).start()

    def relay(client: socket.socket) -> None:
        # A client that refuses the certificate breaks the connection off.
        with (
            suppress(OSError, AssertionError),
            handshake(client, context) as secure,
            socket.create_connection(("127.0.0.1", target)) as server,
        ):
            back = threading.Thread(target=_copy, args=(server, secure), daemon=True)
            back.start()
            _copy(secure, server)
            back.join()

    with closing(listener):
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
