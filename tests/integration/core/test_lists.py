"""Lists by name, queue and time: the indexes that make them quick leave no job out."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import id_times, rare_jobs, reading
from tests.integration.core.factories import put_job

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STATES = list(JobState)
CLOCKS = [timedelta(minutes=minutes) for minutes in (-59, -30, -1, 1, 30, 59)]


def id_at(time: datetime) -> UUID:
    """An id as a process makes it whose clock shows this time."""
    return UUID(int=int(time.timestamp() * 1000) << 80 | new_id().int & (2**80 - 1))


@pytest.fixture
def filled(platform):
    """Jobs of ten hours, with ids of right and wrong clocks; returns id and columns."""
    chance = random.Random(7)
    rows = []
    for number in range(600):
        at = NOW - timedelta(minutes=number)
        clock = chance.choice([timedelta(0)] * 10 + CLOCKS)
        rows.append(
            {
                "id": id_at(at + clock),
                "name": "rare" if number % 97 == 5 else "common",
                "queue": "seldom" if number % 71 == 9 else "often",
                "state": chance.choice(STATES),
                "enqueued_at": at,
                "tags": ["monthly"] * (number % 3 == 0) + ["old"] * (number > 500),
            }
        )
    with platform.database.transaction() as connection:
        for row in rows:
            put_job(connection, **row)
    return rows


FILTERS = [
    {"name": "common"}, {"name": "rare"}, {"queue": "seldom"}, {"name": "rare", "queue": "often"}, {"name": "none"},
    {"until": NOW - timedelta(hours=5)}, {"since": NOW - timedelta(hours=5)}, {"until": NOW - timedelta(days=9)},
    {"since": NOW + timedelta(days=9)}, {"since": NOW - timedelta(hours=6), "until": NOW - timedelta(hours=5)},
    {"name": "common", "until": NOW - timedelta(hours=2)}, {"queue": "seldom", "since": NOW - timedelta(hours=8)},
    {"queue": "often", "since": NOW - timedelta(hours=1), "states": (JobState.FAILED, JobState.RUNNING)},
    {"name": "rare", "states": (JobState.RUNNING, JobState.SUCCEEDED)},
    {"tag": "monthly"}, {"tag": "old"}, {"tag": "none"}, {"tag": "monthly", "name": "rare"},
    {"tag": "monthly", "since": NOW - timedelta(hours=6), "until": NOW - timedelta(hours=1)},
    {"since": datetime(1, 1, 1, tzinfo=UTC), "until": datetime(9999, 1, 1, tzinfo=UTC)},
]  # fmt: skip


def meets(row, which):
    return (
        all(row[key] == which[key] for key in ("name", "queue") if key in which)
        and row["state"] in which.get("states", STATES)
        and which.get("tag", "") in (*row["tags"], "")
        and which.get("since", row["enqueued_at"]) <= row["enqueued_at"]
        and ("until" not in which or row["enqueued_at"] < which["until"])
    )


def test_the_pages_of_a_list_have_every_job_that_matches_once_and_in_order(platform, filled, monkeypatch):
    # The first pages of a tag are found among the newest jobs, the others by the index of tags.
    monkeypatch.setattr(reading, "_NEWEST", 200)
    for which in FILTERS:
        seen, cursor = [], None
        while True:
            page = platform.jobs.page(JobFilter(**which), cursor=cursor, limit=50)
            seen += [job.id for job in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == sorted((row["id"] for row in filled if meets(row, which)), reverse=True), which


def test_a_name_is_rare_while_few_jobs_have_it(platform, filled, monkeypatch):
    with platform.database.autocommit() as connection:
        found = rare_jobs.rare_ids(connection, JobFilter(name="rare"))
        assert set(found or ()) == {row["id"] for row in filled if row["name"] == "rare"}
        assert rare_jobs.rare_ids(connection, JobFilter(name="common")) is None
        assert rare_jobs.rare_ids(connection, JobFilter(states=(JobState.FAILED,))) is None
        monkeypatch.setattr(rare_jobs, "_FEW", len(found or ()) - 1)
        assert rare_jobs.rare_ids(connection, JobFilter(name="rare")) is None


def test_a_range_of_ids_is_an_hour_wider_than_its_period_because_clocks_differ():
    found = id_times.range_of(JobFilter(since=NOW, until=NOW + timedelta(hours=1)))
    assert found == (
        id_times.IdRange(
            UUID(int=int((NOW - timedelta(hours=1)).timestamp() * 1000) << 80),
            UUID(int=int((NOW + timedelta(hours=2)).timestamp() * 1000) << 80),
        )
    )
    assert id_times.range_of(JobFilter(name="rare")) is None
