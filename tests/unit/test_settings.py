"""Settings: where they come from, what they accept, and that an error names key, value and form without a
secret.
"""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from callboard.config.setting_lines import explain
from callboard.config.settings import Settings, load_settings
from callboard.jobs.errors import InvalidInput

KEY = "an-unguessable-key-of-some-length"


def load(folder: Path, toml: str = "", **env: str) -> Settings:
    if toml:
        (folder / "callboard.toml").write_text(toml)
    return load_settings({f"CALLBOARD_{name}": value for name, value in env.items()}, folder)


def test_nothing_given_means_the_documented_defaults(tmp_path):
    settings = load(tmp_path)
    assert settings.database_url is None
    assert settings.redis_url is None
    assert settings.data_dir == tmp_path / ".callboard"
    assert settings.jobs == ()
    assert (settings.host, settings.port) == ("127.0.0.1", 8787)
    assert (settings.processes, settings.threads, settings.slots) == (min(os.cpu_count() or 1, 256), 8, 1024)
    assert settings.async_slots == 256
    assert settings.queues == ()
    assert (settings.retention.succeeded, settings.retention.other) == (timedelta(days=7), timedelta(days=30))
    assert settings.secret_key is None
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", None)
    assert settings.metrics_open is False
    assert settings.fork_server is True
    assert (settings.log_format, settings.log_level) == ("auto", "info")
    assert settings.grace == settings.lease_ttl == timedelta(seconds=30)
    assert settings.max_body == 1024 * 1024
    assert (settings.job_log_level, settings.result_limit) == ("info", 256 * 1024)
    assert settings.trusted_proxies == ()


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path):
    settings = load(tmp_path, toml="port = 1000\nthreads = 2", PORT="2000")
    assert (settings.port, settings.threads, settings.slots) == (2000, 2, 1024)
    assert [settings.source(field) for field in ("port", "threads", "slots")] == [
        "environment",
        "callboard.toml",
        "default",
    ]


def test_every_form_is_read(tmp_path):
    settings = load(
        tmp_path,
        toml='queues = ["mail", "default"]\nmax_body = 2048',
        DATABASE_URL="postgres://app:secret@db.example:5432/jobs",
        REDIS_URL="rediss://cache.example:6380/1",
        DATA_DIR="/srv/call board",
        JOBS="shop.jobs, mail.jobs,shop.jobs",
        PORT="0",
        METRICS_PORT="9100",
        SECRET_KEY=KEY,
        LOG_LEVEL="DEBUG",
        GRACE="1m30s",
        TRUSTED_PROXIES="10.0.0.5, 10.1.0.0/16,2001:db8::/32",
    )
    assert settings.trusted_proxies == ("10.0.0.5/32", "10.1.0.0/16", "2001:db8::/32")
    assert settings.queues == ("mail", "default")
    assert settings.max_body == 2048
    assert settings.data_dir == Path("/srv/call board")
    assert settings.jobs == ("shop.jobs", "mail.jobs")
    assert (settings.port, settings.metrics_port) == (0, 9100)
    assert settings.secret_key == SecretStr(KEY)
    assert settings.log_level == "debug"
    assert settings.grace == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("text", "succeeded", "other"),
    [("7d", 7, 30), ("1d", 1, 30), ("60d", 60, 60), ("3d,4d", 3, 4), ("30d, 2d", 30, 2)],
)
def test_retention_is_one_duration_or_two(tmp_path, text, succeeded, other):
    retention = load(tmp_path, RETENTION=text).retention
    assert (retention.succeeded, retention.other) == (timedelta(days=succeeded), timedelta(days=other))


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64KiB", 65_536), ("1 mib", 1_048_576), ("16MiB", 16_777_216), ("2048B", 2048)],
)
def test_a_size_is_written_in_bytes_or_binary_units(tmp_path, text, size):
    assert load(tmp_path, RESULT_LIMIT=text).result_limit == size
    assert load(tmp_path, toml=f'result_limit = "{text}"').result_limit == size


def test_an_empty_variable_counts_as_unset(tmp_path):
    settings = load(tmp_path, toml="port = 1000", PORT="", DATABASE_URL="", QUEUES="")
    assert (settings.port, settings.database_url, settings.queues) == (1000, None, ())


def test_the_variables_of_the_test_suite_and_of_others_are_left_alone(tmp_path):
    assert (
        load_settings({"CALLBOARD_TEST_DATABASE_URL": "x", "CALLBOARDS": "x", "PORT": "x"}, tmp_path).port
        == 8787
    )


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("JOBS", "shop/jobs.py", "modules"),
        ("HOST", "a host", "an address"),
        ("PORT", "65536", "65535"),
        ("PORT", "-1", "65535"),
        ("PORT", "http", "65535"),
        ("PROCESSES", "0", "1 to 256"),
        ("THREADS", "257", "1 to 256"),
        ("SLOTS", "4097", "1 to 4096"),
        ("ASYNC_SLOTS", "0", "1 to 4096"),
        ("QUEUES", "mail,two words", "queues"),
        ("RETENTION", "a week", "7d"),
        ("RETENTION", "7d,30d,90d", "7d"),
        ("RETENTION", "1s", "7d"),
        ("RETENTION_TICKS", "59m", "1h or more"),
        ("RETENTION_DELIVERIES", "23h", "1d or more"),
        ("RETENTION_JOB_TYPES", "1d", "2d or more"),
        ("METRICS_PORT", "70000", "65535"),
        ("METRICS_OPEN", "maybe", "true or false"),
        ("METRICS_OPEN", "2", "true or false"),
        ("LOG_FORMAT", "xml", "json"),
        ("LOG_LEVEL", "loud", "debug"),
        ("GRACE", "30", "30s"),
        ("GRACE", "2h", "1h"),
        ("LEASE_TTL", "100ms", "1s"),
        ("MAX_BODY", "1MiB", "bytes"),
        ("MAX_CONNECTIONS", "15", "16 to 60000"),
        ("JOB_LOG_LEVEL", "loud", "debug"),
        ("RESULT_LIMIT", "1023", "1KiB to 16MiB"),
        ("RESULT_LIMIT", "17MiB", "1KiB to 16MiB"),
        ("RESULT_LIMIT", "1 GiB", "1KiB to 16MiB"),
        ("RESULT_LIMIT", "-1KiB", "1KiB to 16MiB"),
        ("TRUSTED_PROXIES", "proxy.example", "10.1.0.0/16"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "10.1.0.0/16"),
        ("TRUSTED_PROXIES", "*", "any client could then choose"),
        ("TRUSTED_PROXIES", "10.0.0.1,0.0.0.0/0", "any client could then choose"),
        ("TRUSTED_PROXIES", "::/0", "any client could then choose"),
    ],
)
def test_a_bad_value_is_an_error_that_names_key_value_and_form(tmp_path, name, value, form):
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, **{name: value})
    assert f"CALLBOARD_{name} is {value!r}; expected " in caught.value.message
    assert form in caught.value.message.partition("expected")[2]
    assert list(caught.value.fields) == [f"CALLBOARD_{name}"]


@pytest.mark.parametrize(
    "line", ["port = true", "port = 1.5", "grace = 30", "jobs = [1]", "retention = 7", "host = 1"]
)
def test_a_value_of_the_wrong_type_in_the_file_is_an_error_that_names_the_file(tmp_path, line):
    with pytest.raises(InvalidInput, match=f"callboard.toml: {line.split()[0]} is "):
        load(tmp_path, toml=line)


def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path):
    with pytest.raises(
        InvalidInput, match=r"CALLBOARD_PROT is not a setting \(did you mean CALLBOARD_PORT\?\)"
    ):
        load(tmp_path, PROT="1")
    with pytest.raises(
        InvalidInput, match=r"callboard.toml: thread is not a setting \(did you mean callboard.toml: threads"
    ):
        load(tmp_path, toml="thread = 1")


def test_an_unknown_key_unlike_any_points_to_the_list(tmp_path):
    with pytest.raises(InvalidInput, match=r"CALLBOARD_XYZZY is not a setting \(`callboard config` lists"):
        load(tmp_path, XYZZY="1")


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, toml="threads = 0", PORT="x", NONSENSE="x")
    assert set(caught.value.fields) == {"callboard.toml: threads", "CALLBOARD_PORT", "CALLBOARD_NONSENSE"}


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2"])
def test_a_broken_file_is_an_error_that_names_it(tmp_path, text):
    with pytest.raises(InvalidInput, match=r"callboard\.toml cannot be read: "):
        load(tmp_path, toml=text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://app:hunter2@db/jobs"),
        ("DATABASE_URL", "app:hunter2@db/jobs"),
        ("DATABASE_URL", "postgres:/app:hunter2@db/jobs"),
        ("DATABASE_URL", "mysql://db/jobs?password=hunter2"),
        ("REDIS_URL", "http://:hunter2@cache"),
        ("SECRET_KEY", "hunter2"),
    ],
)
def test_an_error_does_not_show_a_secret(tmp_path, name, value):
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, **{name: value})
    assert "hunter2" not in str(caught.value) + repr(caught.value.fields)
    assert caught.value.__cause__ is None
    assert f"CALLBOARD_{name} is " in caught.value.message


def test_settings_do_not_show_their_secrets_and_do_not_change(tmp_path):
    settings = load(tmp_path, DATABASE_URL="postgresql://app:hunter2@db/jobs", SECRET_KEY=KEY)
    assert "hunter2" not in repr(settings)
    assert KEY not in repr(settings)
    with pytest.raises(ValidationError):
        settings.port = 1


def test_explain_shows_every_setting_its_source_and_no_secret(tmp_path):
    lines = explain(
        load(
            tmp_path,
            toml="grace = '90s'",
            DATABASE_URL="postgresql://app:hunter2@db/jobs?sslpassword=hunter2",
            SECRET_KEY=KEY,
            JOBS="a.b,c",
        )
    )
    shown = {line.key: (line.value, line.source) for line in lines}
    assert len(shown) == len(Settings.model_fields)
    assert shown["CALLBOARD_DATABASE_URL"] == ("postgresql://***@db/jobs?sslpassword=***", "environment")
    assert shown["CALLBOARD_SECRET_KEY"] == ("***", "environment")
    assert shown["CALLBOARD_GRACE"] == ("1m30s", "callboard.toml")
    assert shown["CALLBOARD_JOBS"] == ("a.b,c", "environment")
    assert shown["CALLBOARD_RETENTION"] == ("7d,30d", "default")
    assert shown["CALLBOARD_REDIS_URL"] == ("", "default")


def test_what_explain_shows_is_accepted_again(tmp_path):
    first = load(
        tmp_path,
        JOBS="a.b,c",
        QUEUES="x,y",
        RETENTION="1d,2d",
        GRACE="90s",
        METRICS_PORT="0",
        METRICS_OPEN="yes",
    )
    given = {line.key: line.value for line in explain(first)}
    assert load_settings(given, tmp_path).model_dump() == first.model_dump()


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), (" Yes", True), ("1", True), ("FALSE", False), ("no", False), ("0", False)],
)
def test_a_setting_of_yes_or_no_is_read_in_any_usual_form(tmp_path, text, value):
    assert load(tmp_path, METRICS_OPEN=text).metrics_open is value


def test_a_setting_of_yes_or_no_is_true_or_false_in_the_file(tmp_path):
    assert load(tmp_path, toml="metrics_open = true").metrics_open is True
    with pytest.raises(InvalidInput, match="true or false"):
        load(tmp_path, toml="metrics_open = 1.5")


def test_every_setting_says_which_form_it_accepts():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def kubernetes(service, address="10.0.0.1", port="8787", name="HTTP"):
    """The variables that Kubernetes sets for a Service with one named port."""
    url = f"tcp://{address}:{port}"
    return {
        f"{service}_SERVICE_HOST": address,
        f"{service}_SERVICE_PORT": port,
        f"{service}_SERVICE_PORT_{name}": port,
        f"{service}_PORT": url,
        f"{service}_PORT_{port}_TCP": url,
        f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        f"{service}_PORT_{port}_TCP_PORT": port,
        f"{service}_PORT_{port}_TCP_ADDR": address,
    }


@pytest.mark.parametrize("service", ["CALLBOARD", "CALLBOARD_API", "CALLBOARD_METRICS", "CALLBOARD_API_V2"])
def test_the_variables_of_a_kubernetes_service_are_passed_over(tmp_path, service):
    (tmp_path / "callboard.toml").write_text("port = 1000")
    settings = load_settings(kubernetes(service), tmp_path)
    assert (settings.port, settings.source("port")) == (1000, "callboard.toml")
    assert settings.metrics_port is None
    assert load_settings(kubernetes(service, "[fd00::1]", name="HTTP_ALT"), tmp_path) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "tcp:/10.0.0.1:80"),
        ("PORT", "tcp://10.0.0.1"),
        ("PORT", "http://10.0.0.1:80"),
        ("PORT", "tcp://user:hunter2@10.0.0.1:80"),
        ("API_PORT", "8787"),
        ("PROT", "tcp://10.0.0.1:80"),
        ("SERVICE_HOSTS", "10.0.0.1"),
        ("SERVICE", "10.0.0.1"),
        ("PORT_HTTP_TCP", "tcp://10.0.0.1:80"),
        ("PORT_80", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP_ADR", "10.0.0.1"),
    ],
)
def test_a_name_or_value_close_to_those_of_a_kubernetes_service_is_an_error(tmp_path, name, value):
    with pytest.raises(InvalidInput, match=f"CALLBOARD_{name} is ") as caught:
        load(tmp_path, **{name: value})
    assert "hunter2" not in caught.value.message


def test_the_file_has_no_variables_of_a_kubernetes_service(tmp_path):
    with pytest.raises(InvalidInput, match=r"callboard\.toml: port is "):
        load(tmp_path, toml='port = "tcp://10.0.0.1:80"')
