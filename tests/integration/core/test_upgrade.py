"""A database that version 0.1 made: what the upgrade changes in it, what it keeps, and the way back."""

import json
from collections import Counter

import pytest
from sqlalchemy import text

from callboard.jobs.errors import Unauthorized
from callboard.jobs.model.states import JobState
from tests.integration.core import release_0_1
from tests.integration.core.factories import own_database

# The class of each error in the fixture, in the order of attempts.
RENAMED = {
    "varied": [
        "ValueError", "shop.PaymentError", "Conflict", "Conflict", "Unavailable", "Busy", "NotFound",
        "InvalidInput", "UnknownJob", "WaitTimeout", "NotInAJob", "Retried", "TimedOut", "Retried",
    ],
    "gives_up": ["Failed"],
    "bad_call": ["InvalidArguments"],
    "too_much": ["PayloadTooLarge"],
    "slow": ["TimedOut"],
    "killed": ["TimedOut"],
    "not_wanted": ["Cancelled"],
    "stopped": ["Cancelled"],
    "quarantined": ["WorkerDied", "WorkerDied"],
}  # fmt: skip


@pytest.fixture
def released(database_url):
    """The fixture's rows, in the tables of version 0.1."""
    with own_database(database_url, "release") as platform:
        release_0_1.load(platform)
        yield platform


def without_classes(row):
    errors = row.get("errors")
    return row if errors is None else row | {"errors": [entry | {"class": ""} for entry in errors]}


def versions(platform):
    """The transaction that wrote each job's row."""
    with platform.database.autocommit() as connection:
        return {
            row[0]: row[1] for row in connection.execute(text("SELECT id, xmin::text FROM callboard.jobs"))
        }


def classes(platform):
    jobs = {tag: platform.jobs.get(job) for tag, job in release_0_1.tagged(platform).items()}
    return {tag: [entry["class"] for entry in job.errors] for tag, job in jobs.items() if job.errors}


def test_the_fixture_has_jobs_in_every_state_and_rows_in_every_table(released):
    assert released.migrations.status().current == release_0_1.LAST_REVISION
    assert {job["state"] for job in release_0_1.rows(released, "jobs")} == {str(state) for state in JobState}
    assert [name for name in release_0_1.tables(released) if not release_0_1.rows(released, name)] == []
    stored = [entry["class"] for job in release_0_1.rows(released, "jobs") for entry in job["errors"]]
    assert sum(name.startswith("jobs.") for name in stored) == 19


def test_an_upgrade_changes_the_classes_of_errors_and_nothing_else(released):
    names = release_0_1.tables(released)
    before = {name: release_0_1.rows(released, name) for name in names}
    assert released.migrations.upgrade().up_to_date
    for name in names:
        after = release_0_1.rows(released, name)
        assert len(after) == len(before[name])
        for old, new in zip(before[name], after, strict=True):
            # a column that a later version adds is no change
            known = {column: new[column] for column in old}
            assert without_classes(known) == without_classes(old)


def test_an_upgrade_gives_the_errors_of_ours_fixed_names(released):
    released.migrations.upgrade()
    assert classes(released) == RENAMED


def test_an_upgrade_writes_only_the_rows_that_it_changes(released):
    before = versions(released)
    released.migrations.upgrade()
    after = versions(released)
    tags = release_0_1.tagged(released)
    renamed = {tags[tag] for tag in RENAMED.keys() - {"quarantined"}}
    assert {job for job, version in after.items() if before[job] != version} == renamed


def test_every_job_of_an_upgraded_database_is_readable(released):
    before = Counter(job["state"] for job in release_0_1.rows(released, "jobs"))
    released.migrations.upgrade()
    jobs = [released.jobs.get(job) for job in versions(released)]
    assert Counter(str(job.state) for job in jobs) == before
    assert released.jobs.get(release_0_1.tagged(released)["report"]).result == {
        "account": 5,
        "month": "2026-10",
    }


def test_keys_of_an_upgraded_database_authenticate_as_before(released):
    released.migrations.upgrade()
    assert released.auth.authenticate(release_0_1.API_KEY).name == "shop"
    with pytest.raises(Unauthorized):
        released.auth.authenticate(release_0_1.API_KEY[:-1] + "x")


def test_a_downgrade_restores_the_class_paths_of_0_1(released):
    before = release_0_1.rows(released, "jobs")
    released.migrations.upgrade()
    assert released.migrations.downgrade(release_0_1.LAST_REVISION).current == release_0_1.LAST_REVISION
    # StaleJob became Conflict, and one name cannot stand for two classes on the way back.
    stale, conflict = (f'"class": "jobs.errors.{name}"' for name in ("StaleJob", "Conflict"))
    assert stale in json.dumps(before)
    assert release_0_1.rows(released, "jobs") == json.loads(json.dumps(before).replace(stale, conflict))
