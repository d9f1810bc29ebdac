"""A job's name with its namespace has a limit, and the error says so."""

import dramatiq
import pytest

from callboard import job
from callboard.jobs import client as client_module
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.errors import InvalidInput


@pytest.fixture(autouse=True)
def _broker(monkeypatch):
    made = CallboardBroker(lambda: pytest.fail("nothing connects here"), middleware=[])
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    yield
    client_module.configured_app.cache_clear()


@pytest.mark.parametrize(("namespace", "name"), [("n" * 300, "short"), ("billing", "n" * 195)])
def test_a_namespace_that_makes_the_name_too_long_is_refused_with_the_limit(namespace, name):
    with pytest.raises(InvalidInput, match="200 characters with the job's name"):
        job(namespace=namespace, name=name)(lambda: None)


@pytest.mark.parametrize(("length", "fits"), [(192, True), (193, False)])
def test_a_name_that_is_too_long_with_the_namespace_of_the_application_is_no_job(monkeypatch, length, fits):
    monkeypatch.setenv("CALLBOARD_APP", "billing")
    client_module.configured_app.cache_clear()
    actor = job(name="n" * length)(lambda: None)
    if fits:
        assert len(define(actor).name) == 200
    else:
        with pytest.raises(InvalidInput, match=r"CALLBOARD_APP.* 200 characters"):
            define(actor)
