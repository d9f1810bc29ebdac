"""The versions of a job type: which of them count, which defaults an enqueue gets, and what is pruned."""

from dataclasses import replace
from datetime import timedelta

import dramatiq
import psycopg
import pytest

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.errors import InvalidArguments
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.reasons import Code
from callboard.jobs.retention.retention import RetentionSpans
from tests.integration.core.factories import PYTHON, claimed, enqueue_one, execution, run_sql, url_of

MINUTE = timedelta(minutes=1)
SPANS = RetentionSpans()


def v1(name: str) -> None: ...


def v2(name: str, tone: int) -> None: ...


def kind(function, *, priority: int = 5) -> JobType:
    return JobType("greet_all", "greetings", describe(function).schema, priority, 10, None, "", module="shop")


OLD, NEW = kind(v1, priority=3), kind(v2, priority=7)
OLD_CALL, NEW_CALL = {"name": "ada"}, {"name": "ada", "tone": 2}


def boot(platform, version: JobType):
    """A worker that runs this version starts."""
    published = platform.catalogue.publish([version])
    card = WorkerCard(new_id(), "host", 1, (), ("greet_all",), 1, 1, tuple(one.key for one in published))
    platform.workers.register(card)
    platform.catalogue.forget()
    return card.id


def later(platform, minutes: int = 2) -> None:
    """Let time pass for the versions that have no worker."""
    run_sql(
        platform, "UPDATE callboard.job_versions SET counts_until = counts_until - :by", by=MINUTE * minutes
    )
    platform.catalogue.forget()


def accepts(platform, kwargs) -> bool:
    request = job_request({"name": "greet_all", "kwargs": kwargs})
    try:
        platform.enqueue.check(request, PYTHON)
    except InvalidArguments:
        return False
    return True


def both(platform) -> tuple[bool, bool]:
    """Whether the arguments of the old and of the new version are accepted: by Python and by SQL."""
    found = accepts(platform, OLD_CALL), accepts(platform, NEW_CALL)
    assert (sql_accepts(platform, OLD_CALL), sql_accepts(platform, NEW_CALL)) == found
    return found


def sql_accepts(platform, kwargs) -> bool:
    with psycopg.connect(url_of(platform).replace("+psycopg", "")) as connection:
        try:
            connection.execute(
                "SELECT callboard.enqueue('greet_all', %s)", [psycopg.types.json.Jsonb(kwargs)]
            )
        except psycopg.errors.InvalidParameterValue:
            return False
        return True


def test_with_both_versions_live_both_are_accepted_and_each_gets_its_own_defaults(platform):
    boot(platform, OLD)
    boot(platform, NEW)
    assert both(platform) == (True, True)
    jobs = [
        enqueue_one(platform, job_request({"name": "greet_all", "kwargs": kwargs}))
        for kwargs in (OLD_CALL, NEW_CALL)
    ]
    assert [platform.jobs.get(job.id).priority for job in jobs] == [3, 7]


def test_an_old_worker_that_starts_again_does_not_make_its_version_the_newest(platform):
    for version in (OLD, NEW, OLD):
        boot(platform, version)
    assert [one.type.priority for one in platform.catalogue.versions("greet_all")] == [7, 3]
    assert both(platform) == (True, True)


def test_a_version_counts_for_a_minute_after_its_last_worker(platform):
    old = boot(platform, OLD)
    boot(platform, NEW)
    platform.workers.end(old, suspects=())
    platform.catalogue.forget()
    assert both(platform) == (True, True)
    later(platform)
    assert both(platform) == (False, True)


def test_with_no_worker_the_version_that_was_published_or_seen_last_counts(platform):
    workers = [boot(platform, version) for version in (OLD, NEW)]
    for worker in workers:
        platform.workers.end(worker, suspects=())
    later(platform)
    assert both(platform) == (False, True)


def test_a_version_that_is_announced_counts_for_a_day_without_a_worker(platform):
    boot(platform, OLD)
    [published] = platform.catalogue.publish([NEW], announced=True)
    platform.catalogue.forget()
    assert published.change == "new"
    assert both(platform) == (True, True)
    later(platform, minutes=24 * 60 + 1)
    assert both(platform) == (True, False)


def test_a_version_that_is_announced_again_is_the_newest(platform):
    platform.catalogue.publish([OLD])
    platform.catalogue.publish([NEW])
    assert [one.change for one in platform.catalogue.publish([OLD])] == ["unchanged"]
    assert [one.change for one in platform.catalogue.publish([OLD], announced=True)] == ["newest"]
    assert platform.catalogue.versions("greet_all")[0].type.priority == 3


def test_a_cached_refusal_is_checked_against_the_database(platform):
    boot(platform, OLD)
    assert not accepts(platform, NEW_CALL)
    platform.catalogue.publish([NEW], announced=True)
    assert accepts(platform, NEW_CALL)


def test_many_jobs_of_both_versions_are_accepted_together(platform):
    boot(platform, OLD)
    boot(platform, NEW)
    batch = platform.enqueue.check_arguments(job_request({"name": "greet_all"}), [OLD_CALL, NEW_CALL], PYTHON)
    assert [job.settings.priority for job in batch.jobs] == [3, 7]


def test_an_error_is_about_the_newest_version_and_counts_the_others(platform):
    boot(platform, OLD)
    boot(platform, NEW)
    with pytest.raises(InvalidArguments, match=r"missing .*newest of 2 versions") as refused:
        platform.enqueue.check(job_request({"name": "greet_all", "kwargs": {}}), PYTHON)
    assert {"kwargs.name", "kwargs.tone"} == refused.value.fields.keys()


def test_what_a_worker_of_an_earlier_release_publishes_is_a_version(platform):
    boot(platform, NEW)
    run_sql(
        platform,
        "INSERT INTO callboard.job_types AS t (name, queue, schema, defaults, doc)"
        " SELECT name, queue, jsonb_set(schema, '{required}', '[\"name\"]'), defaults, doc FROM callboard.job_types"
        " ON CONFLICT (name) DO UPDATE SET schema = excluded.schema",
    )
    platform.workers.register(WorkerCard(new_id(), "old", 1, (), ("greet_all",), 1, 1))
    platform.catalogue.forget()
    assert both(platform) == (True, True)
    assert [one.workers for one in platform.catalogue.versions("greet_all")] == [1, 1]


def test_a_version_without_workers_is_pruned_and_the_last_one_stays_while_jobs_wait(platform):
    platform.catalogue.publish([OLD])
    platform.catalogue.publish([NEW])
    job = enqueue_one(platform, job_request({"name": "greet_all", "kwargs": NEW_CALL})).id
    run_sql(platform, "UPDATE callboard.job_versions SET seen_at = now() - interval '31 days'")
    platform.retention.prune(SPANS)
    assert [one.type.priority for one in platform.catalogue.versions()] == [7]
    platform.control.cancel(job)
    platform.retention.prune(SPANS)
    assert platform.catalogue.versions() == []


def test_why_names_the_versions_that_accept_a_job_that_was_put_off(platform):
    boot(platform, NEW)
    platform.catalogue.publish([OLD])
    job = enqueue_one(platform, job_request({"name": "greet_all", "kwargs": OLD_CALL, "unchecked": True})).id
    run_sql(platform, "UPDATE callboard.jobs SET put_off = 1, put_off_reason = 'host: kwargs.tone: missing'")
    [reason] = [one for one in platform.why.explain(job).reasons if one.code is Code.PUT_OFF]
    old = next(one for one in platform.catalogue.versions() if one.type.priority == 3)
    assert f"1 of 2 versions of greet_all accept its arguments: {old.digest} (no workers)" in reason.text
    assert "waits for a worker" in reason.text


def test_the_same_definition_has_the_same_digest_and_another_module_does_not_change_it(platform):
    [first] = platform.catalogue.publish([OLD])
    [second] = platform.catalogue.publish([replace(OLD, module="elsewhere", doc="new words")])
    assert first.digest == second.digest
    assert len(platform.catalogue.versions("greet_all")) == 1


@pytest.mark.parametrize(("running", "longest"), [((OLD, NEW), 6), ((NEW,), 400)])
def test_a_job_that_was_put_off_comes_back_soon_while_a_live_version_accepts_it(platform, running, longest):
    for version in running:
        boot(platform, version)
    with execution(platform) as worker:
        [job] = claimed(platform, worker, name="greet_all", kwargs=OLD_CALL, unchecked=True)
        delay = timedelta(seconds=300)
        worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=delay, put_off="host: no")])
    kept = platform.jobs.get(job.id)
    wait = (kept.run_at - kept.enqueued_at).total_seconds()
    assert wait < longest
    assert (wait > 200) is (OLD not in running)
    assert (kept.state, kept.put_off, kept.attempt) == (JobState.SCHEDULED, 1, 0)


def test_a_docstring_and_a_default_that_postgres_cannot_store_do_not_keep_a_job_from_being_published(
    platform, monkeypatch
):
    monkeypatch.setattr(dramatiq.broker, "global_broker", CallboardBroker(lambda: platform, middleware=[]))

    @dramatiq.actor
    def split_at_nul(text: str, at: str = "\0"):
        """Split at \0 or \ud800."""

    platform.catalogue.publish([define(split_at_nul).type])
    platform.catalogue.forget()
    [known] = platform.catalogue.versions("split_at_nul")
    assert known.type.doc == "Split at \N{REPLACEMENT CHARACTER} or ?."
    assert known.type.schema["properties"]["at"] == {"type": "string"}
    assert known.type.schema["required"] == ["text"]
