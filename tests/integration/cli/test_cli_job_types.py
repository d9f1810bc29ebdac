"""`callboard job types`, `job publish` without jobs, and what `doctor` says about versions."""

from dataclasses import replace
from pathlib import Path

import dramatiq

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.job_type import JobType

STRICT = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
KIND = JobType("ship", "mail", STRICT, 5, 10, None, "Ship an order.", module="shop.jobs")
WIDER = replace(KIND, schema={**STRICT, "properties": {"a": {}, "b": {}}, "required": ["a", "b"]})


def boot(platform, kind):
    """A worker that runs this version starts."""
    keys = tuple(one.key for one in platform.catalogue.publish([kind]))
    platform.workers.register(WorkerCard(new_id(), "host", 1, (), (kind.name,), 1, 1, keys))


def test_the_versions_of_a_job_are_listed_newest_first_with_their_workers(callboard, platform):
    for kind in (KIND, WIDER):
        boot(platform, kind)
    [listed] = callboard("job", "types", "ship", "--json").json["items"]
    assert [(one["schema"]["required"], one["workers"], one["is_current"]) for one in listed["versions"]] == [
        (["a", "b"], 1, True),
        (["a"], 1, True),
    ]
    table = callboard("job", "types").out
    assert all(one["digest"] in table for one in listed["versions"])
    shown = callboard("job", "types", "ship").out
    assert "a (required), b (required)" in shown
    assert "shop.jobs" in shown


def test_the_types_of_a_job_that_nobody_published_are_an_error(callboard):
    outcome = callboard("job", "types", "nothing")
    assert outcome.code != 0
    assert "no job is called 'nothing'" in outcome.err


def test_a_publication_without_modules_says_what_to_set(callboard):
    outcome = callboard("job", "publish")
    assert outcome.code != 0
    assert "CALLBOARD_JOBS (empty) defines no job" in outcome.err


def test_a_publication_has_the_actors_of_every_broker_that_the_modules_make(callboard, platform, monkeypatch):
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    Path("published_brokers.py").write_text(
        "import dramatiq\n"
        "from dramatiq.brokers.stub import StubBroker\n"
        "first, second = StubBroker(), StubBroker()\n"
        "dramatiq.set_broker(first)\n"
        "@dramatiq.actor\ndef published_first(): ...\n"
        "@dramatiq.actor(broker=second)\ndef published_second(): ...\n"
    )
    published = callboard("job", "publish", "--json", jobs="published_brokers").json["items"]
    assert {one["name"] for one in published} == {"published_first", "published_second"}


def test_doctor_names_jobs_with_several_live_versions_and_names_that_two_modules_define(callboard, platform):
    for kind in (KIND, replace(WIDER, module="depot.jobs")):
        boot(platform, kind)
    told = {check["name"]: check["message"] for check in callboard("doctor", "--json").json["checks"]}
    assert told["versions"] == "workers run several versions of a job: ship (2)"
    assert "ship is defined in depot.jobs, shop.jobs" in told["names"]
