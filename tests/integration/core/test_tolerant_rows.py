"""Times and intervals that Python cannot hold are read as values that say so."""

import pytest
from sqlalchemy import text

from callboard.jobs.model.unreadable import UnreadableSpan, UnreadableTime

TIMES = ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12345-01-01 00:00:00+00"]


@pytest.mark.parametrize("value", TIMES)
@pytest.mark.parametrize("kind", ["pooled", "kept"])
def test_a_time_that_python_cannot_hold_does_not_hide_the_other_rows(platform, kind, value):
    statement = text(
        "SELECT n, CASE n WHEN 2 THEN CAST(:value AS timestamptz) ELSE now() END FROM generate_series(1, 3) n"
    )

    def read(connection):
        return [tuple(row) for row in connection.execute(statement, {"value": value}).all()]

    if kind == "pooled":
        with platform.database.autocommit() as connection:
            rows = read(connection)
            ones = connection.execute(statement, {"value": value})
            assert [ones.fetchone()[0] for _ in range(3)] == [1, 2, 3]
            assert ones.fetchone() is None
    else:
        kept = platform.database.kept("claim")
        rows = kept.run(read)
        kept.close()
    assert [row[0] for row in rows] == [1, 2, 3]
    assert isinstance(rows[1][1], UnreadableTime)
    assert rows[1][1].year == (2 if value.startswith("-") or value.endswith("BC") else 9998)
    assert type(rows[0][1]) is type(rows[2][1]) is not UnreadableTime


@pytest.mark.parametrize(("value", "years"), [("1000000000 days", 100), ("-1000000000 days", -100)])
@pytest.mark.parametrize("kind", ["pooled", "kept"])
def test_an_interval_that_python_cannot_hold_counts_as_a_hundred_years(platform, kind, value, years):
    statement = text("SELECT CAST(:value AS interval)")

    def read(connection):
        return connection.execute(statement, {"value": value}).scalar_one()

    if kind == "pooled":
        with platform.database.autocommit() as connection:
            span = read(connection)
    else:
        kept = platform.database.kept("claim")
        span = kept.run(read)
        kept.close()
    assert isinstance(span, UnreadableSpan)
    assert round(span.days / 365.25) == years
