"""The URLs of Postgres and Redis: read, checked, and passed on in a form that every library reads alike.

Only this module parses them. Postgres URLs are read as libpq reads them, Redis URLs as redis-py does. What
these libraries would read in two ways is refused. An error is a ValueError. It says what is wrong and shows
no part of the URL, except the name of an unknown parameter: what cannot be parsed may be a part of a
password.
"""

import difflib
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import quote, unquote, unquote_plus, urlencode

from callboard.config.address_parameters import (
    POSTGRES_PARAMETERS,
    REDIS_PARAMETERS,
    REDIS_RESERVED,
    SENTINEL_PREFIX,
    TLS_PREFIX,
    ParameterForm,
)

_POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")
_SENTINEL_SCHEMES: Final = frozenset(["redis+sentinel", "rediss+sentinel"])
_SENTINEL_FORM: Final = "redis+sentinel://host:26379,host:26379/service/0"
_OTHER_SCHEMES: Final = {
    "postgresql+": "a driver as in postgresql+psycopg:// is not supported; write postgresql://",
    "postgres+": "a driver as in postgres+psycopg:// is not supported; write postgresql://",
    "jdbc:": "a JDBC URL is not supported; write postgresql://user:password@host:5432/name",
    "valkey://": "valkey:// is not supported; write redis://",
    "valkeys://": "valkeys:// is not supported; write rediss://",
    "redis+socket://": "redis+socket:// is not supported; write unix:///path?db=0",
    "redis+unix://": "redis+unix:// is not supported; write unix:///path?db=0",
    "redis-sentinel://": f"redis-sentinel:// is not supported; write {_SENTINEL_FORM}",
    "rediss-sentinel://": f"rediss-sentinel:// is not supported; write {_SENTINEL_FORM} with rediss+",
    "sentinel://": f"sentinel:// is not supported; write {_SENTINEL_FORM}",
    "redis+cluster://": "Redis Cluster is not supported",
    "rediss+cluster://": "Redis Cluster is not supported",
    "redis-cluster://": "Redis Cluster is not supported",
}
_NOT_PRINTABLE: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_DATABASE_NUMBER: Final = re.compile(r"/(?:[0-9]{1,9})?", re.ASCII)
#: Sentinel accepts no other names of services.
_SERVICE: Final = re.compile(r"/[A-Za-z0-9._-]{1,255}")
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_HOST_AND_PORT: Final = re.compile(r"[A-Za-z0-9.-]*:[0-9]*")
_LAST_PORT: Final = 65535
_ASCII: Final = string.ascii_letters + string.digits + string.punctuation
_ESCAPES: Final = "percent-encode user and password (@ is %40, : %3A, / %2F, ? %3F, # %23, % %25)"


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The connection parameters that a URL sets. libpq adds those of PG* variables, .pgpass and services.

    An empty text means that the URL does not set it.
    """

    user: str
    password: str
    database: str
    #: All others, with `host` and `port`, by libpq's names. Several hosts are separated by commas.
    parameters: Mapping[str, str]

    def for_sqlalchemy(self) -> str:
        """Return the URL for SQLAlchemy with the psycopg 3 driver.

        Host and port are parameters: SQLAlchemy reads a host in front of the path in another way than libpq.
        """
        user, password, database = (
            quote(part, safe="") for part in (self.user, self.password, self.database)
        )
        account = f"{user}:{password}@" if password else f"{user}@" if user else ""
        query = urlencode(self.parameters, quote_via=quote)
        return f"postgresql+psycopg://{account}/{database}" + (f"?{query}" if query else "")


def read_postgres_url(url: str) -> PostgresAddress:
    """Return the connection parameters of a URL. Raise ValueError if it is malformed or ambiguous."""
    rest = _after_scheme(url, _POSTGRES_SCHEMES)
    before_path = re.match("[^@/]*@", rest)
    account, rest = (rest[: before_path.end() - 1], rest[before_path.end() :]) if before_path else ("", rest)
    if "@" in rest:
        raise ValueError(f"it has an @ in a wrong place; {_ESCAPES}")
    address, mark, query = rest.partition("?")
    servers, _, database = address.partition("/")
    user, _, password = account.partition(":")
    given = {"user": user, "password": password, "dbname": database, **_hosts_and_ports(servers)}
    found = {name: unquote(value) for name, value in given.items() if value}
    for name, value in _parameters(query, decode=unquote) if mark else ():
        name, value = ("sslmode", "require") if (name, value) == ("ssl", "true") else (name, value)  # noqa: PLW2901
        form = POSTGRES_PARAMETERS.get(name)
        if form is None:
            raise ValueError(_unknown(name, POSTGRES_PARAMETERS))
        _check_value(name, value, form)
        if value:
            found[name] = value
    _check_servers(found)
    user, password, database = (found.pop(name, "") for name in ("user", "password", "dbname"))
    return PostgresAddress(user, password, database, found)


def check_postgres_url(url: str, *, has_default_database: bool) -> str:
    """Return the URL in ASCII, if it can be used.

    has_default_database: the environment names the database for URLs that do not.
    """
    address = read_postgres_url(url)
    if not (address.database or has_default_database or "service" in address.parameters):
        raise ValueError("it names no database; add it after the host, as in postgresql://host/name")
    return quote(url, safe=_ASCII)


def check_redis_url(url: str) -> str:
    """Return the URL in a form that redis-py reads as it is meant: user and password are percent-encoded."""
    rest = _after_scheme(url, _REDIS_SCHEMES)
    scheme = url.partition(":")[0]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if "@" in tail:
        raise ValueError(f"it has an @ in a wrong place; {_ESCAPES}")
    if "#" in tail:
        raise ValueError("it has a # that is not percent-encoded; write # as %23")
    account, at, server = authority.rpartition("@")
    path, mark, query = tail.partition("?")
    database = _check_redis_server(scheme, server, path)
    found = dict(_parameters(query, decode=unquote_plus)) if mark else {}
    for name, value in found.items():
        _check_redis_parameter(scheme, name, value)
    if "db" in found and database not in {"", "/", f"/{found['db']}"}:
        raise ValueError("it names two databases, one in the path and one in the parameter db")
    user, colon, password = account.partition(":")
    account = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    return f"{scheme}://{account}{at}" + quote(server + tail, safe=_ASCII)


def _after_scheme(url: str, schemes: tuple[str, ...]) -> str:
    """Return what follows the scheme of a URL that has no bad characters and no bad escapes."""
    for other, problem in _OTHER_SCHEMES.items():
        if url.lower().startswith(other):
            raise ValueError(problem)
    scheme = next((scheme for scheme in schemes if url.startswith(scheme)), None)
    if scheme is None:
        raise ValueError(f"it does not start with {' or '.join(schemes)}")
    if _NOT_PRINTABLE.search(url):
        raise ValueError("it has a space, a line break or a control character; write a space as %20")
    if _BAD_ESCAPE.search(url):
        raise ValueError("it has a % without two hexadecimal digits after it; write % as %25")
    try:
        decoded = unquote(url, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("it has bytes that are not valid UTF-8") from None
    if "\0" in decoded:
        raise ValueError("it has a NUL character (%00)")
    return url.removeprefix(scheme)


def _hosts_and_ports(servers: str) -> dict[str, str]:
    """Return libpq's `host` and `port` for `host:port,[::1]:port,...`, still percent-encoded."""
    hosts, ports = [], []
    for server in servers.split(","):
        host, port = _host_and_port(server)
        hosts.append(host)
        ports.append(port)
    if len(hosts) > 1 and "" in hosts:
        raise ValueError("one of its hosts is empty")
    return {"host": ",".join(hosts), "port": ",".join(ports) if any(ports) else ""}


def _host_and_port(server: str) -> tuple[str, str]:
    """Return host and port of `host`, `host:port` or `[IPv6]:port`; empty texts for what it does not have."""
    if server.startswith("["):
        host, bracket, after = server[1:].partition("]")
        try:
            IPv6Address(unquote(host))
        except AddressValueError:
            raise ValueError("it has no IPv6 address between [ and ]") from None
        if not bracket or (after and not after.startswith(":")):
            raise ValueError("it has something else than a port after an IPv6 address in brackets")
        port = after[1:]
    else:
        host, _, port = server.partition(":")
        if "[" in host or "]" in host:
            raise ValueError("it has a bracket in a host that is no IPv6 address")
    if port:
        _check_port(port)
    return host, port


def _check_port(port: str) -> None:
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= _LAST_PORT:
        raise ValueError(
            f"its port is not a number from 1 to 65535; put an IPv6 address in brackets, as [::1]; {_ESCAPES}"
        )


def _parameters(query: str, *, decode: Callable[[str], str]) -> Iterable[tuple[str, str]]:
    """Return decoded names and values of `name=value&name=value`. A name that occurs twice is an error."""
    found: dict[str, str] = {}
    for part in query.removesuffix("&").split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError("its parameters are not written as ?name=value&name=value")
        if "=" in value:
            raise ValueError(f"the value of its parameter {name} has a =; write it as %3D")
        if name in found:
            raise ValueError(f"it has the parameter {name} twice")
        found[name] = decode(value)
    return found.items()


def _unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"it has an unknown parameter {name}" + (f" (did you mean {close[0]}?)" if close else "")


def _check_value(name: str, value: str, form: ParameterForm) -> None:
    if value and not form.accepts(value):
        raise ValueError(f"its parameter {name} is not {form.name}")


def _check_servers(found: dict[str, str]) -> None:
    """Check hosts and ports of all sources. One port for several hosts is repeated for each of them."""
    hosts = found.get("host", "").split(",")
    if any(_HOST_AND_PORT.fullmatch(host) for host in hosts):
        raise ValueError("its parameter host has a port; write it in the parameter port")
    if "port" not in found:
        return
    ports = found["port"].split(",")
    for port in filter(None, ports):
        _check_port(port)
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError("it has not as many ports as hosts")
    found["port"] = ",".join(ports)


def _check_redis_server(scheme: str, server: str, path: str) -> str:
    """Check where Redis is; return the part of the path that names the database."""
    if scheme == "unix":
        if server or len(path) <= 1:
            raise ValueError("it needs the absolute path of a socket, as in unix:///run/redis.sock")
        return ""
    if scheme in _SENTINEL_SCHEMES:
        return _check_sentinels(server, path)
    if "," in server:
        raise ValueError(f"it has several hosts; Cluster is not supported; for Sentinel: {_SENTINEL_FORM}")
    _host_and_port(server)
    if path and not _DATABASE_NUMBER.fullmatch(path):
        raise ValueError("its path is not the number of a Redis database, as in redis://host/0")
    return path


def _check_sentinels(servers: str, path: str) -> str:
    for server in servers.split(","):
        host, _ = _host_and_port(server)
        if not host:
            raise ValueError("one of its Sentinels has no host")
    service = _SERVICE.match(path)
    if service is None or not _DATABASE_NUMBER.fullmatch(path[service.end() :] or "/"):
        raise ValueError(f"it names no service of Sentinel after the hosts, as in {_SENTINEL_FORM}")
    return path[service.end() :]


def _check_redis_parameter(scheme: str, name: str, value: str) -> None:
    if name in REDIS_RESERVED:
        raise ValueError(f"it sets {name}, which Callboard sets itself; remove it")
    form = REDIS_PARAMETERS.get(name)
    if form is None:
        raise ValueError(_unknown(name, REDIS_PARAMETERS))
    if name.startswith(TLS_PREFIX) and not scheme.startswith("rediss"):
        raise ValueError(f"its parameter {name} needs rediss://")
    if name.startswith(SENTINEL_PREFIX) and scheme not in _SENTINEL_SCHEMES:
        raise ValueError(f"its parameter {name} needs redis+sentinel://")
    if not value:
        raise ValueError(f"its parameter {name} is empty")
    _check_value(name, value, form)
