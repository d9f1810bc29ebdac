"""Where Postgres is: what libpq adds to a URL, and the server's name for messages."""

from collections.abc import Mapping
from typing import Final

from psycopg import pq
from sqlalchemy import URL

_DEFAULT_PORT: Final = "5432"
_ANY_SERVER: Final = ("target_session_attrs", "any")


def libpq_defaults() -> dict[str, str]:
    """Return the parameters for what a URL leaves out: from the PG* variables, or built into libpq."""
    found = {
        option.keyword.decode(): option.val.decode(errors="replace")
        for option in pq.Conninfo.get_defaults()
        if option.val is not None
    }
    # libpq's own default is no choice of the user.
    return {name: value for name, value in found.items() if (name, value) != _ANY_SERVER}


def server_address(url: URL) -> str:
    """Return servers and database of a URL for messages: `db:5432/shop`, `/tmp:5432 or [::1]:5433/shop`."""
    given = {name: value for name, value in url.query.items() if isinstance(value, str)}
    if url.host:
        given |= {"host": url.host} | ({"port": str(url.port)} if url.port else {})
    if "service" in given:
        return f"service {given['service']}"
    parameters = libpq_defaults() | given
    database = url.database or parameters.get("dbname") or url.username or parameters.get("user", "")
    return f"{_servers(parameters)}/{database}"


def _servers(parameters: Mapping[str, str]) -> str:
    hosts = (parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    ports = parameters.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    named = (f"{_host(host)}:{port or _DEFAULT_PORT}" for host, port in zip(hosts, ports, strict=False))
    return " or ".join(named)


def _host(host: str) -> str:
    if not host:
        return "a local socket"
    return f"[{host}]" if ":" in host else host
