"""`callboard job enqueue NAME --help`."""

import pytest

from callboard.cli.job.argument_help import argument_rows, type_text


def test_the_help_shows_the_arguments_of_the_named_job(callboard, platform):
    kind = platform.catalogue.versions()[0].type
    outcome = callboard("job", "enqueue", kind.name, "--priority", 2, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"Arguments of {kind.name}, for --args:" in outcome.out
    assert all(name in outcome.out for name in kind.schema["properties"])
    assert "--unique-key" in outcome.out


def test_the_help_of_an_unknown_job_says_so(callboard):
    outcome = callboard("job", "enqueue", "no_such_job", "--help")
    assert outcome.code == 0
    assert "No worker has published a job no_such_job." in outcome.out


def test_without_servers_the_help_is_the_plain_help_and_a_line(callboard, tmp_path):
    for settings in (
        {"database_url": "postgresql://nobody@127.0.0.1:1/nothing"},
        {"database_url": "", "data_dir": str(tmp_path / "none")},
        {"threads": "many"},
    ):
        outcome = callboard("job", "enqueue", "build_report", "--help", **settings)
        assert outcome.code == 0
        assert "The arguments of build_report cannot be shown: " in outcome.out
        assert "--unique-key" in outcome.out
    assert not (tmp_path / "none").exists()


def test_without_a_name_the_help_is_plain(callboard):
    outcome = callboard("job", "enqueue", "--help")
    assert outcome.code == 0
    assert "rguments of" not in outcome.out.partition("Options:")[0].replace("the arguments of that job", "")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "integer"),
        ({}, "any value"),
        ({"type": "array", "items": {"type": "string"}}, "array of string"),
        (
            {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "string (date-time) or null",
        ),
        ({"enum": ["a", 1]}, 'one of "a", 1'),
        ({"const": True}, "true"),
        ({"$ref": "#/$defs/Order"}, "object Order"),
        ({"$ref": "#/$defs/Size"}, 'one of "s", "m"'),
        ({"$ref": "#/$defs/Loop"}, "object Loop"),
        ({"$ref": "#/$defs/Missing"}, "object Missing"),
    ],
)
def test_a_type_is_described_in_words(schema, text):
    root = {
        "$defs": {
            "Order": {"type": "object"}, "Size": {"enum": ["s", "m"], "type": "string"},
            "Loop": {"$ref": "#/$defs/Loop"},
        }
    }  # fmt: skip
    assert type_text(schema, root) == text


def test_arguments_stand_in_the_order_of_the_call_with_type_default_and_description():
    schema = {
        "properties": {"b": {"type": "string", "default": "x"}, "a": {"type": "integer", "description": "which"}},
        "required": ["a"], "x-parameters": ["a", "b"], "x-var-positional": True, "additionalProperties": True,
    }  # fmt: skip
    assert argument_rows(schema) == [
        ("a", "integer; required; which"), ("b", 'string; default "x"'),
        ("*", "any number of further values by position"), ("**", "any further names"),
    ]  # fmt: skip
