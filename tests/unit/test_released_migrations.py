"""Statements of the released migrations, translated to another schema."""

import re
from pathlib import Path

import pytest

from callboard.jobs.postgres import migrating
from callboard.jobs.postgres.released_migrations import translated

SQL = sorted((Path(migrating.__file__).parent / "migrations" / "sql").glob("*.sql"))


@pytest.mark.parametrize(
    ("released", "other"),
    [
        ("CREATE TABLE callboard.jobs (id UUID)", "CREATE TABLE other.jobs (id UUID)"),
        ("FOREIGN KEY(a) REFERENCES callboard.jobs (id)", "FOREIGN KEY(a) REFERENCES other.jobs (id)"),
        ("DROP INDEX callboard.jobs_queued", "DROP INDEX other.jobs_queued"),
        ("DROP FUNCTION callboard.digest(text)", "DROP FUNCTION other.digest(text)"),
        ("kind callboard.job_types%ROWTYPE;", "kind other.job_types%ROWTYPE;"),
        ("'callboard.jobs'::regclass", "'other.jobs'::regclass"),
        ("PERFORM pg_notify('callboard_queued', target)", "PERFORM pg_notify('other_queued', target)"),
    ],
)
def test_the_schema_and_the_channel_of_a_statement_are_translated(released, other):
    assert translated(released, "other") == other
    assert translated(released, "callboard") == released


@pytest.mark.parametrize(
    "statement",
    [
        "RAISE EXCEPTION 'callboard: kwargs must be a JSON object'",
        "INSERT INTO other.alembic_version (version_num) VALUES ('0001')",
        "SELECT * FROM my_callboard.jobs",
        "SELECT * FROM callboard2.jobs",
        "SELECT x.callboard.jobs",
        "SELECT 'callboard_queued_too'",
        "SELECT callboard FROM other.jobs",
        "SELECT 1.5, 'callboard. A sentence.'",
    ],
)
def test_what_is_no_name_of_the_schema_stays(statement):
    assert translated(statement, "other") == statement


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_a_translated_file_names_the_old_schema_in_messages_alone(path):
    released = path.read_text()
    other = translated(released, "other")
    assert set(re.findall(r"callboard.?", other)) <= {"callboard:"}
    assert other.count("callboard:") == released.count("callboard:")
    assert re.sub(r"\bother(?=\.|_queued)", "callboard", other) == released
