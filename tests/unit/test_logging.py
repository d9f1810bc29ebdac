"""Logs: one line per event, for machines or for people, and nothing secret in it."""

import io
import json
import logging
import re

import pytest
import structlog

from callboard.config.logging import configure, defer_to_host, redact
from callboard.config.redaction import is_secret_key, mask_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    names = {name: logging.getLogger(name).level for name in list(logging.root.manager.loggerDict)}
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(names.get(name, logging.NOTSET))
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines_of(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_fields():
    out = io.StringIO()
    configure("json", stream=out)
    structlog.get_logger("jobs.control").info("job.retried", job_id="0192", attempt=2, tags=("a", "b"))
    [line] = lines_of(out)
    assert list(line)[:4] == ["timestamp", "level", "event", "logger"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "job.retried",
        "logger": "jobs.control",
        "job_id": "0192",
        "attempt": 2,
        "tags": ["a", "b"],
    }


def test_the_standard_library_goes_the_same_way_and_is_redacted_too():
    out = io.StringIO()
    configure("json", stream=out)
    logging.getLogger("sqlalchemy.pool").warning(
        "lost %s", "postgresql://a:hunter2@h/d", extra={"token": "hunter2"}
    )
    [line] = lines_of(out)
    assert line["event"] == "lost postgresql://***@h/d"
    assert line["token"] == "***"
    assert line["logger"] == "sqlalchemy.pool"


def test_context_variables_are_on_every_line():
    out = io.StringIO()
    configure("json", stream=out)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").info("a.b")
        logging.getLogger("y").warning("c")
    assert [line["request_id"] for line in lines_of(out)] == ["r-1", "r-1"]


def test_the_level_filters_and_chatty_libraries_are_quiet():
    out = io.StringIO()
    configure("json", "warning", stream=out)
    structlog.get_logger("x").info("no")
    structlog.get_logger("x").warning("yes")
    configure("json", "info", stream=out)
    logging.getLogger("dramatiq.worker").info("no")
    logging.getLogger("other").info("yes too")
    assert [line["event"] for line in lines_of(out)] == ["yes", "yes too"]


def test_an_exception_is_shown_with_its_trace_and_without_its_secrets():
    out = io.StringIO()
    configure("json", stream=out)
    try:
        raise ValueError("cannot reach redis://:hunter2@h/0")
    except ValueError:
        structlog.get_logger("x").exception("job.failed")
    [line] = lines_of(out)
    assert "Traceback" in line["exception"]
    assert "ValueError: cannot reach redis://***@h/0" in line["exception"]
    assert "hunter2" not in out.getvalue()


def test_whatever_is_logged_is_a_line():
    out = io.StringIO()
    configure("json", stream=out)
    log = structlog.get_logger("x")
    log.info(
        "odd", big=2**80, nan=float("nan"), surrogate="\udcff", raw=b"\xff", keys={1: {2: 3}}, obj=object
    )
    log.info("fine", big=2**80, infinite=float("inf"))
    assert [line["event"] for line in lines_of(out)] == ["odd", "fine"]
    assert lines_of(out)[1]["big"] == str(2**80)


def test_a_person_reads_time_event_and_fields():
    out = io.StringIO()
    configure("human", stream=out)
    structlog.get_logger("jobs.control").info("job.retried", attempt=2, note="two words", empty="")
    structlog.get_logger("jobs.control").error("job.failed")
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r'\d\d:\d\d:\d\d  job\.retried {14}attempt=2 note="two words" empty=""', first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  error: job\.failed", second)


def test_a_field_cannot_steer_the_terminal_or_forge_a_line():
    out = io.StringIO()
    configure("human", stream=out)
    structlog.get_logger("x").info("webhook.rejected", agent="a\x1b[2J\n12:00:00  job.succeeded")
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_auto_is_human_and_coloured_on_a_terminal_unless_no_color_is_set(monkeypatch, no_color, coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    out = Terminal()
    configure(stream=out)
    structlog.get_logger("x").info("job.retried", attempt=2)
    assert ("\x1b[" in out.getvalue()) is coloured
    assert "job.retried" in out.getvalue()


def test_auto_is_json_elsewhere():
    out = io.StringIO()
    configure(stream=out)
    structlog.get_logger("x").info("job.retried")
    assert lines_of(out)[0]["event"] == "job.retried"


def test_a_list_of_texts_is_readable_on_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    configure(stream=out)
    structlog.get_logger("x").info("job_types.published", versions=["add@1 (new)", "take@2"], sizes=[1, 2])
    assert out.getvalue().partition("job_types.published")[2].split("versions=")[1].split() == [
        *('"add@1', "(new),", 'take@2"'),
        *('sizes="[1,', '2]"'),
    ]


def test_fields_that_do_not_fit_the_terminal_go_on_below(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    configure(stream=out)
    structlog.get_logger("x").info("job.retried", **{f"field_{n}": "x" * 20 for n in range(6)})
    lines = out.getvalue().splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 10) for line in lines[1:])


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_password",
        "token",
        "access_token",
        "refreshToken",
        "Authorization",
        "api_key",
        "X-Api-Key",
        "secret",
        "client_secret",
        "cookie",
        "Set-Cookie",
        "X-Hub-Signature-256",
        "args",
        "kwargs",
        "secret_key",
        "private_key",
        "credentials",
    ],
)
def test_a_key_that_looks_secret_is_masked_at_any_depth(key):
    event = redact(None, "info", {"event": "x", key: "hunter2", "inner": [{"deeper": {key: ["hunter2"]}}]})
    assert event == {"event": "x", key: "***", "inner": [{"deeper": {key: "***"}}]}


@pytest.mark.parametrize(
    "key",
    [
        "unique_key",
        "idempotency_key",
        "tokens_fed",
        "queue",
        "author",
        "keys",
        "monkey",
        "job",
        "result",
        "key",
    ],
)
def test_a_key_that_only_resembles_a_secret_is_shown(key):
    assert not is_secret_key(key)


def test_a_secret_that_is_absent_may_be_seen_to_be_absent():
    assert redact(None, "info", {"token": None, "secret": False}) == {"token": None, "secret": False}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://app:hunter2@db:5432/x", "postgresql://***@db:5432/x"),
        ("redis://:hunter2@h/0 and redis://:hunter2@g", "redis://***@h/0 and redis://***@g"),
        ("postgres://a:p@ss@h", "postgres://***@h"),
        ("redis://u:f%u#ll@h:1/5", "redis://***@h:1/5"),
        ("redis://u:a/b?c#d@e@h:1/5?db=1", "redis://***@h:1/5?db=1"),
        ('{"url":"redis://:hunter"2@h/0"}', '{"url":"redis://***@h/0"}'),
        ("https://hunter2@h/path", "https://***@h/path"),
        ("https://h/a?next=redis://:hunter2@h", "https://***@h"),
        ("redis://h/0?password=hun,ter)2&db=1", "redis://h/0?password=***&db=1"),
        ("postgresql://h/d?scram_client_key=hunter2", "postgresql://h/d?scram_client_key=***"),
        ("https://h/path?token=hunter2&a=1", "https://h/path?token=***&a=1"),
        ('{"password": "hunter two", "a": 1}', '{"password": ***, "a": 1}'),
        (r"{\"api_key\": \"hunter2\"}", r"{\"api_key\": ***}"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ***"),
        ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("https://example.com:8080/a@b", "https://example.com:8080/a@b"),
        ("nothing to hide: 3 tokens", "nothing to hide: 3 tokens"),
    ],
)
def test_secrets_inside_a_text_are_masked(text, masked):
    assert mask_text(text) == masked


def test_a_long_value_is_cut_after_it_was_redacted():
    secret = "redis://:hunter2" + "x" * 400 + "@h/0"
    for text in (
        "a" * 990 + secret + "b" * 3000,  # astride the end of what stays
        secret + "b" * 500_000,
        "b" * 500_000 + secret,
    ):
        value = redact(None, "info", {"note": text})["note"]
        assert len(value) < 2_100
        assert "hunter2" not in value
        assert "characters]" in value


def test_large_and_deep_values_are_bounded():
    deep: dict = {}
    for _ in range(50):
        deep = {"inner": deep, "items": list(range(1000))}
    assert len(json.dumps(redact(None, "info", {"deep": deep}))) < 20_000


def test_in_a_host_program_our_events_are_its_own_log_records(caplog):
    structlog.reset_defaults()
    try:
        defer_to_host()
        with caplog.at_level("INFO"):
            structlog.get_logger("jobs.services.control").info("job.cancelled", job_id="7", token="cb_secret")
        assert [record.name for record in caplog.records] == ["jobs.services.control"]
        assert "event='job.cancelled'" in caplog.text
        assert "cb_secret" not in caplog.text
    finally:
        structlog.reset_defaults()
