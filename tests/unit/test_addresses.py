"""URLs of Postgres and Redis: read as libpq and redis-py read them, and no error shows a part of a password."""

import re
from collections.abc import Mapping
from inspect import signature
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from sqlalchemy import create_engine, make_url

from callboard.config.address_parameters import (
    POSTGRES_PARAMETERS,
    REDIS_PARAMETERS,
    REDIS_RESERVED,
    SENTINEL_PREFIX,
)
from callboard.config.addresses import check_redis_url, read_postgres_url
from callboard.config.redaction import mask_text
from callboard.config.setting_lines import explain
from callboard.config.settings import load_settings, sqlalchemy_url
from callboard.jobs.errors import InvalidInput
from callboard.jobs.postgres.server_address import server_address
from callboard.jobs.redis.timed_connections import make_client

PASSWORD = "p@s:s/w#r%d +&=?"
ENCODED = quote(PASSWORD, safe="")


def driver_parameters(url: str) -> dict[str, str]:
    """What SQLAlchemy gives to psycopg for a URL of the settings."""
    engine = create_engine(sqlalchemy_url(url))
    _, parameters = engine.dialect.create_connect_args(engine.url)
    parameters.pop("context", None)
    return as_texts(parameters)


def as_texts(parameters: Mapping[str, object]) -> dict[str, str]:
    """The parameters without `port=,`, which means the default port for each of two hosts."""
    return {name: str(value) for name, value in parameters.items() if str(value).strip(",")}


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://db/jobs", {"host": "db", "dbname": "jobs"}),
        ("postgres://db:5433/jobs", {"host": "db", "port": "5433", "dbname": "jobs"}),
        ("postgresql:///jobs", {"dbname": "jobs"}),
        ("postgresql://", {}),
        (
            f"postgresql://a%40b:{ENCODED}@db/jo%20bs",
            {"user": "a@b", "password": PASSWORD, "host": "db", "dbname": "jo bs"},
        ),
        ("postgresql://u:a?b#c=d&e@db/jobs", {"user": "u", "password": "a?b#c=d&e", "host": "db", "dbname": "jobs"}),
        ("postgresql://:pw@db/jobs", {"password": "pw", "host": "db", "dbname": "jobs"}),
        ("postgresql://u:é@db/jobs", {"user": "u", "password": "é", "host": "db", "dbname": "jobs"}),
        ("postgresql://u@%2Ftmp%2Fpg/jobs", {"user": "u", "host": "/tmp/pg", "dbname": "jobs"}),
        ("postgresql:///jobs?host=/tmp/pg&port=5433", {"host": "/tmp/pg", "port": "5433", "dbname": "jobs"}),
        ("postgresql://localhost/jobs?host=%2Fcloudsql%2Fa:b:c", {"host": "/cloudsql/a:b:c", "dbname": "jobs"}),
        ("postgresql://[::1]/jobs", {"host": "::1", "dbname": "jobs"}),
        ("postgresql://[fe80::1%25eth0]:1/jobs", {"host": "fe80::1%eth0", "port": "1", "dbname": "jobs"}),
        (
            "postgresql://a:1,b,[::1]:3/jobs?target_session_attrs=read-write",
            {"host": "a,b,::1", "port": "1,,3", "dbname": "jobs", "target_session_attrs": "read-write"},
        ),
        ("postgresql://a,b/jobs", {"host": "a,b", "dbname": "jobs"}),
        ("postgresql:///jobs?options=-csearch_path%3Dx+y", {"dbname": "jobs", "options": "-csearch_path=x+y"}),
        ("postgresql:///jobs?sslmode=verify-full&sslrootcert=/ca.pem&",
         {"dbname": "jobs", "sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        ("postgresql://db/jobs?ssl=true", {"host": "db", "dbname": "jobs", "sslmode": "require"}),
        ("postgresql://?service=shop", {"service": "shop"}),
        ("postgresql://db/x?dbname=jobs&user=u&password=p%2Fq",
         {"host": "db", "dbname": "jobs", "user": "u", "password": "p/q"}),
    ],
)  # fmt: skip
def test_a_postgres_url_is_read_alike_by_libpq_and_sqlalchemy(url, parameters):
    assert as_texts(conninfo_to_dict(url)) == parameters
    assert driver_parameters(url) == parameters


def test_one_port_for_several_hosts_is_repeated_for_sqlalchemy():
    url = "postgresql://a,b/jobs?port=5433"
    assert conninfo_to_dict(url)["port"] == "5433"
    assert driver_parameters(url)["port"] == "5433,5433"


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(user=WORDS, password=WORDS, database=WORDS, host=st.sampled_from(["db", "%2Ftmp", "[::1]", "a,b:2"]))
def test_any_percent_encoded_user_password_and_database_are_read_as_they_are(user, password, database, host):
    user_, password_, database_ = (quote(part, safe="") for part in (user, password, database))
    url = f"postgresql://{user_}:{password_}@{host}/{database_}"
    found = read_postgres_url(url)
    assert (found.user, found.password, found.database) == (user, password, database)
    libpq = conninfo_to_dict(url)
    assert (libpq.get("user", ""), libpq.get("password", "")) == (user, password)
    shown = make_url(sqlalchemy_url(url))
    assert (shown.username or "", shown.password or "") == (user, password)
    assert (shown.database or "") == database


@given(st.text(st.sampled_from("ab:/@?#[]%1,=&. é"), max_size=25))
def test_a_postgres_url_that_is_accepted_is_accepted_by_libpq_with_the_same_account(rest):
    try:
        found = read_postgres_url(f"postgresql://{rest}")
    except ValueError:
        return
    libpq = conninfo_to_dict(f"postgresql://{rest}")
    read = (found.user, found.password, found.database, found.parameters.get("host", ""))
    assert read == tuple(libpq.get(name, "") for name in ("user", "password", "dbname", "host"))


def test_every_known_parameter_is_one_of_libpq():
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    assert known - POSTGRES_PARAMETERS.keys() == {"replication"}
    for name in POSTGRES_PARAMETERS:
        try:
            conninfo_to_dict(f"postgresql:///?{name}=1")
        except ProgrammingError:
            assert name not in known


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("redis://", {}),
        ("redis://cache", {"host": "cache"}),
        ("redis://cache:6380/5", {"host": "cache", "port": 6380, "db": 5}),
        ("redis://cache/", {"host": "cache"}),
        ("redis://cache?db=3", {"host": "cache", "db": 3}),
        ("redis://cache/3?db=3", {"host": "cache", "db": 3}),
        (f"redis://app:{ENCODED}@cache/1", {"username": "app", "password": PASSWORD, "host": "cache", "db": 1}),
        (f"redis://:{ENCODED}@[::1]:1", {"password": PASSWORD, "host": "::1", "port": 1}),
        ("redis://:p@s:[s@cache", {"password": "p@s:[s", "host": "cache"}),
        ("redis://:℀é@cache", {"password": "℀é", "host": "cache"}),
        ("redis://app@cache", {"username": "app", "host": "cache"}),
        ("unix:///run/my%20redis.sock?db=3", {"path": "/run/my redis.sock", "db": 3}),
        (f"unix://app:{ENCODED}@/run/r.sock", {"username": "app", "password": PASSWORD, "path": "/run/r.sock"}),
        ("rediss://cache?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=no",
         {"host": "cache", "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "required", "ssl_check_hostname": False}),
        ("redis://cache?username=a&password=b%2Bc", {"host": "cache", "username": "a", "password": "b+c"}),
    ],
)  # fmt: skip
def test_a_redis_url_is_read_by_redis_py_as_it_is_meant(url, parameters):
    read = parse_url(check_redis_url(url))
    read.pop("connection_class", None)
    assert read == parameters
    assert check_redis_url(check_redis_url(url)) == check_redis_url(url)


@given(user=WORDS, password=WORDS, server=st.sampled_from(["cache", "[::1]:1", "cache:6380"]))
def test_any_percent_encoded_user_and_password_of_redis_are_read_as_they_are(user, password, server):
    url = check_redis_url(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@{server}/5")
    read = parse_url(url)
    assert (read.get("username", ""), read.get("password", ""), read["db"]) == (user, password, 5)


@given(
    st.text(st.sampled_from("ab:/@?#[]%1,=&. é℀"), max_size=25),
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel"]),
)
def test_a_redis_url_that_is_accepted_is_accepted_by_redis_py(rest, scheme):
    try:
        url = check_redis_url(f"{scheme}://{rest}")
    except ValueError:
        return
    make_client(url).connection_pool.make_connection()


@pytest.mark.parametrize(
    ("url", "sentinels", "service", "parameters"),
    [
        ("redis+sentinel://a/main", [("a", 26379)], "main", {}),
        ("redis+sentinel://a:1,b.c:2,[::1]:3,[::2]/my-main/7",
         [("a", 1), ("b.c", 2), ("::1", 3), ("::2", 26379)], "my-main", {"db": 7}),
        (f"redis+sentinel://app:{ENCODED}@a,b/main/7?client_name=x", [("a", 26379), ("b", 26379)], "main",
         {"db": 7, "username": "app", "password": PASSWORD, "client_name": "x"}),
        ("redis+sentinel://:p@s:[s@a/main?db=3", [("a", 26379)], "main", {"db": 3, "password": "p@s:[s"}),
        (f"rediss+sentinel://a/main?sentinel_username=watch&sentinel_password={ENCODED}&ssl_ca_certs=/ca.pem",
         [("a", 26379)], "main", {"ssl_ca_certs": "/ca.pem"}),
    ],
)  # fmt: skip
def test_a_sentinel_url_is_read_as_it_is_meant(url, sentinels, service, parameters):
    checked = check_redis_url(url)
    assert check_redis_url(checked) == checked
    pool = make_client(checked).connection_pool
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == sentinels
    assert pool.service_name == service
    given = pool.connection_kwargs
    assert {name: given[name] for name in given if name in REDIS_PARAMETERS} == parameters
    own = {"username": "watch", "password": PASSWORD} if "sentinel_username" in url else {}
    for one in asked:
        assert {name: one[name] for name in ("username", "password") if name in one} == own
        assert one.get("ssl_ca_certs") == parameters.get("ssl_ca_certs")
    tls = [issubclass(kind, SSLConnection) for kind in (pool.connection_class,)]
    assert tls == [url.startswith("rediss")]
    pool.make_connection()


def test_every_known_parameter_is_one_of_redis_py():
    accepted = {
        name
        for kind in (Connection, SSLConnection, UnixDomainSocketConnection)
        for base in kind.__mro__
        for name in signature(base.__init__).parameters
    }
    assert accepted >= {name.removeprefix(SENTINEL_PREFIX) for name in REDIS_PARAMETERS}
    assert REDIS_RESERVED.isdisjoint(REDIS_PARAMETERS)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://db/jobs", "does not start with postgresql:// or postgres://"),
        ("hunter2", "does not start with postgresql://"),
        ("app:hunter2@db/jobs", "does not start with postgresql://"),
        ("postgres:/app:hunter2@db/jobs", "does not start with postgresql://"),
        ("postgresql+psycopg://u:hunter2@db/jobs", "a driver as in postgresql+psycopg:// is not supported"),
        ("jdbc:postgresql://db/jobs?password=hunter2", "a JDBC URL is not supported"),
        ("postgresql://u:hunter2@db/jo bs", "a space, a line break or a control character"),
        ("postgresql://u:hunter2@db/jobs\n", "a space, a line break or a control character"),
        ("postgresql://u:hunter%2@db/jobs", "a % without two hexadecimal digits after it; write % as %25"),
        ("postgresql://u:hunter2%00@db/jobs", "a NUL character"),
        ("postgresql://u:hunter2%FF@db/jobs", "bytes that are not valid UTF-8"),
        ("postgresql://u:hunter2\udcff@db/jobs", "bytes that are not valid UTF-8"),
        ("postgresql://u:hun@ter2@db/jobs", "an @ in a wrong place; percent-encode user and password (@ is %40"),
        ("postgresql://u:hun/ter2@db/jobs", "an @ in a wrong place"),
        ("postgresql://u:1/ter2@db/jobs", "an @ in a wrong place"),
        ("postgresql://u:hunter2/jobs", "port is not a number from 1 to 65535"),
        ("postgresql://db:0/jobs", "port is not a number"),
        ("postgresql://db:65536/jobs", "port is not a number"),
        ("postgresql://db:\u0661/jobs", "port is not a number"),
        ("postgresql://::1:5432/jobs", "put an IPv6 address in brackets"),
        ("postgresql://[::1/jobs", "something else than a port after an IPv6 address"),
        ("postgresql://[::1]x/jobs", "something else than a port after an IPv6 address"),
        ("postgresql://[hunter2]/jobs", "no IPv6 address between [ and ]"),
        ("postgresql://a,,b/jobs", "one of its hosts is empty"),
        ("postgresql://a,b/jobs?port=1,2,3", "not as many ports as hosts"),
        ("postgresql:///jobs?host=db:5432", "parameter host has a port; write it in the parameter port"),
        ("postgresql:///jobs?host=a&host=b", "the parameter host twice"),
        ("postgresql:///jobs?sslmod=require", "an unknown parameter sslmod (did you mean sslmode?)"),
        ("postgresql:///jobs?replication=database", "an unknown parameter replication"),
        ("postgresql:///jobs?prepare_threshold=0", "an unknown parameter prepare_threshold"),
        ("postgresql:///jobs?hunter2", "parameters are not written as ?name=value&name=value"),
        ("postgresql:///jobs?password=hun=ter2", "value of its parameter password has a =; write it as %3D"),
        ("postgresql:///jobs?sslmode=hunter2", "parameter sslmode is not one of disable, allow, prefer, "),
        ("postgresql:///jobs?connect_timeout=hunter2", "parameter connect_timeout is not a whole number"),
        ("postgresql://u:hunter2@db", "names no database; add it after the host, as in postgresql://host/name"),
        ("postgresql://u:hunter2@db/?user=x", "names no database"),
        (f"postgresql://u:hunter2@db/{'x' * 2000}", "longer than 2000 characters"),
    ],
)  # fmt: skip
def test_a_postgres_url_that_cannot_be_used_is_an_error_that_says_why(tmp_path, url, problem):
    assert_refused("DATABASE_URL", url, problem, tmp_path)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://:hunter2@cache", "does not start with redis:// or rediss:// or unix://"),
        ("valkey://:hunter2@cache", "valkey:// is not supported; write redis://"),
        ("redis://u:f%u#ll@h:1/5", "a % without two hexadecimal digits after it"),
        ("redis://u:hunter2#ll@h:1/5", "an @ in a wrong place"),
        ("redis://u:hunter2/ll@h:1/5", "an @ in a wrong place"),
        ("redis://u:hunter2?ll@h:1/5", "an @ in a wrong place"),
        ("redis://h:1/5#hunter2", "a # that is not percent-encoded"),
        ("redis://:hunter2", "port is not a number from 1 to 65535"),
        ("redis://::1:6379", "put an IPv6 address in brackets"),
        ("redis://hunter2]", "a bracket in a host that is no IPv6 address"),
        ("redis://[hunter2]", "no IPv6 address between [ and ]"),
        ("redis://a:1,b:2/0", "several hosts; Cluster is not supported; for Sentinel: redis+sentinel://host"),
        ("sentinel://:hunter2@cache", "write redis+sentinel://host:26379,host:26379/service/0"),
        ("redis-sentinel://:hunter2@cache", "write redis+sentinel://host:26379,host:26379/service/0"),
        ("rediss+cluster://:hunter2@cache", "Redis Cluster is not supported"),
        ("redis+sentinel://:hunter2@cache", "names no service of Sentinel after the hosts, as in redis+sent"),
        ("redis+sentinel://:hunter2@cache/", "names no service of Sentinel"),
        ("redis+sentinel://a,b/main/x", "names no service of Sentinel"),
        ("redis+sentinel://a,b/ma%20in/0", "names no service of Sentinel"),
        ("redis+sentinel:///main/0", "one of its Sentinels has no host"),
        ("redis+sentinel://a,,b/main/0", "one of its Sentinels has no host"),
        ("redis+sentinel://a:hunter2/main/0", "port is not a number from 1 to 65535"),
        ("redis+sentinel://u:hunter2/ll@a/main/0", "an @ in a wrong place"),
        ("redis+sentinel://a/main/5?db=6", "names two databases"),
        ("redis+sentinel://a/main/5?ssl_ca_certs=/ca.pem", "parameter ssl_ca_certs needs rediss://"),
        ("redis+sentinel://a/main/5?sentinel_passwort=hunter2", "did you mean sentinel_password?"),
        ("redis://a/5?sentinel_password=hunter2", "sentinel_password needs redis+sentinel://"),
        ("redis://cache/hunter2", "path is not the number of a Redis database, as in redis://host/0"),
        ("redis://cache/-1", "path is not the number of a Redis database"),
        ("redis://cache/1/2", "path is not the number of a Redis database"),
        ("redis://cache/5?db=6", "names two databases"),
        ("redis://cache?db=x", "parameter db is not a whole number"),
        ("redis://cache?db=", "parameter db is empty"),
        ("redis://cache?dbb=1", "an unknown parameter dbb (did you mean db?)"),
        ("redis://cache?socket_timeout=1", "sets socket_timeout, which Callboard sets itself; remove it"),
        ("redis://cache?decode_responses=True", "sets decode_responses, which Callboard sets itself"),
        ("redis://cache?ssl_ca_certs=/ca.pem", "parameter ssl_ca_certs needs rediss://"),
        (
            "rediss://cache?ssl_cert_reqs=maybe",
            "parameter ssl_cert_reqs is not one of none, optional, required",
        ),
        ("unix://", "needs the absolute path of a socket, as in unix:///run/redis.sock"),
        ("unix://run/redis.sock", "needs the absolute path of a socket"),
        ("unix://u:hunter2@run/redis.sock", "needs the absolute path of a socket"),
    ],
)
def test_a_redis_url_that_cannot_be_used_is_an_error_that_says_why(tmp_path, url, problem):
    assert_refused("REDIS_URL", url, problem, tmp_path)


def assert_refused(key, url, problem, folder):
    with pytest.raises(InvalidInput) as caught:
        load_settings({f"CALLBOARD_{key}": url}, folder)
    assert caught.value.message.startswith(f"CALLBOARD_{key} is not usable: ")
    assert problem in caught.value.message
    assert "; expected a URL such as " in caught.value.message
    told = str(caught.value) + repr(caught.value.fields)
    assert not re.search("hunter|ter2|#ll|f%u", told)
    assert caught.value.__cause__ is None


def test_a_url_in_the_file_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "callboard.toml").write_text("redis_url = 5")
    with pytest.raises(InvalidInput, match=r"callboard\.toml: redis_url is not usable: it is not a text"):
        load_settings({}, tmp_path)


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("postgresql://db", {"PGDATABASE": "jobs"}),
        ("postgresql://db", {"PGSERVICE": "shop"}),
        ("postgresql://?service=shop", {}),
        ("postgresql://db?dbname=jobs", {}),
    ],
)
def test_the_database_may_be_named_elsewhere(tmp_path, url, environment):
    assert load_settings({"CALLBOARD_DATABASE_URL": url} | environment, tmp_path).database_url == url


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=4, max_size=30),
    st.sampled_from(
        ["postgresql", "postgres", "redis", "rediss", "unix", "postgresql+psycopg", "amqp", "REDIS"]
    ),
    st.sampled_from(["h:1/5", "/run/x.sock?db=1", "[::1]/x", "a:1,b:2/x?password=y", ""]),
    st.sampled_from(["", "cannot reach ", '{"url":"', "x=("]),
)
def test_a_masked_url_never_shows_its_password_however_it_is_written(password, scheme, server, before):
    for written in (password, quote(password), quote(password, safe="")):
        text = f"{before}{scheme}://user:{written}@{server} next"
        assert mask_text(text) == f"{before}{scheme}://***@{server.replace('=y', '=***')} next"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40))
def test_an_error_never_shows_a_password_that_is_not_encoded(password):
    secret = f"hunter{password}ter2"
    for key, start, end in (("DATABASE", "postgresql", "/jobs"), ("REDIS", "redis", "/5")):
        try:
            settings = load_settings({f"CALLBOARD_{key}_URL": f"{start}://u:{secret}@h{end}"})
        except InvalidInput as error:
            shown = str(error) + repr(error.fields)
        else:
            shown = str(explain(settings)) + repr(settings)
        assert "hunter" not in shown
        assert "ter2" not in shown


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://u:hunter2@db/jobs", "db:5432/jobs"),
        ("postgresql://u@[::1]:1/jobs", "[::1]:1/jobs"),
        ("postgresql:///jobs?host=a,::1,/tmp/pg&port=1,,3", "a:1 or [::1]:5432 or /tmp/pg:3/jobs"),
        ("postgresql://a,b/jobs?port=5433", "a:5433 or b:5433/jobs"),
        ("postgresql://%2Ftmp%2Fpg/jobs", "/tmp/pg:5432/jobs"),
        ("postgresql://u@/jobs?hostaddr=10.0.0.1", "10.0.0.1:5432/jobs"),
        ("postgresql://u:hunter2@db", "db:5432/u"),
        ("postgresql:///jobs", "a local socket:5432/jobs"),
        ("postgresql://?service=shop", "service shop"),
    ],
)
def test_messages_name_the_servers_and_the_database(monkeypatch, url, address):
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    assert server_address(make_url(sqlalchemy_url(url))) == address


def test_messages_name_the_server_of_the_environment(monkeypatch):
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "5433")
    monkeypatch.setenv("PGDATABASE", "jobs")
    assert server_address(make_url(sqlalchemy_url("postgresql://"))) == "a:5433 or b:5433/jobs"


def test_a_url_of_sqlalchemy_is_read_too():
    assert server_address(make_url("postgresql+psycopg://u@h:1/x")) == "h:1/x"
