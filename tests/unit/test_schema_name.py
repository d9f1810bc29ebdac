"""The schema's name: what it may be, and how it is set."""

import pytest

from callboard.config.setting_lines import explain
from callboard.config.settings import load_settings
from callboard.jobs.client import Client
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA, check_schema
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.sql import SCHEMA, in_schema

NOWHERE = ("postgresql+psycopg://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize("name", ["callboard", "other", "_", "a1_b", "public", "x" * 40])
def test_a_plain_lower_case_name_can_be_the_schema(name):
    assert check_schema(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "Callboard", "1st", "a-b", "a.b", "a b", "a;b", "a:b", "a'b", 'a"b', "é", "x" * 41,
        "pg_temp", "pg_",
        "callboard\n", "user", "table", "left", "information_schema",
    ],
)  # fmt: skip
def test_any_other_name_is_refused_with_what_is_allowed(name):
    with pytest.raises(InvalidInput, match="cannot be the schema"):
        check_schema(name)
    with pytest.raises(InvalidInput, match="cannot be the schema"):
        Platform(*NOWHERE, schema=name)


def test_the_schema_is_a_setting_with_a_default(tmp_path):
    assert load_settings({}, tmp_path).schema_name == DEFAULT_SCHEMA == "callboard"
    (tmp_path / "callboard.toml").write_text('schema = "from_the_file"')
    assert load_settings({}, tmp_path).schema_name == "from_the_file"
    settings = load_settings({"CALLBOARD_SCHEMA": "other"}, tmp_path)
    [line] = [line for line in explain(settings) if line.key == "CALLBOARD_SCHEMA"]
    assert (line.value, line.source) == ("other", "environment")


@pytest.mark.parametrize("name", ["Other", "pg_x", "order", "a-b"])
def test_a_setting_that_cannot_be_the_schema_is_refused_by_its_key(name, tmp_path):
    with pytest.raises(InvalidInput) as caught:
        load_settings({"CALLBOARD_SCHEMA": name}, tmp_path)
    assert list(caught.value.fields) == ["CALLBOARD_SCHEMA"]
    assert "expected up to 40 of a-z, 0-9 and _" in caught.value.message


def test_the_field_of_the_schema_is_no_setting_of_its_own(tmp_path):
    with pytest.raises(InvalidInput, match="did you mean CALLBOARD_SCHEMA"):
        load_settings({"CALLBOARD_SCHEMA_NAME": "other"}, tmp_path)


def test_the_placeholder_in_a_statement_becomes_the_schema():
    assert in_schema(f"SELECT * FROM {SCHEMA}.jobs", "other") == "SELECT * FROM other.jobs"


def test_a_client_made_from_the_environment_uses_the_schema_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLBOARD_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("CALLBOARD_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CALLBOARD_SCHEMA", "other")
    with Client.from_env() as client:
        assert client.platform.database.schema == "other"


def test_every_redis_key_begins_with_the_schema():
    platform = Platform(*NOWHERE, schema="other")
    try:
        assert platform.database.schema == "other"
        assert platform.transport.queue_key("mail") == "other:queue:mail"
        assert platform.transport.finished_channel == "other:finished"
    finally:
        platform.close()
