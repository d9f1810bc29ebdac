"""Texts that Postgres cannot hold: nothing has such a name, and asking for it is an answer, never a crash."""

from contextlib import suppress

import pytest

from callboard.jobs.errors import CallboardError, InvalidInput
from callboard.jobs.model.states import Verb
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.webhooks.delivery import Incoming

ASKED = {
    "queue": lambda platform, text: platform.queues.get(text),
    "pause": lambda platform, text: platform.queues.pause(text),
    "purge": lambda platform, text: platform.queues.purge(text),
    "schedule": lambda platform, text: platform.schedules().get(text),
    "ticks": lambda platform, text: platform.schedules().ticks(text),
    "delete schedule": lambda platform, text: platform.schedules().delete(text),
    "receive": lambda platform, text: platform.intake("k" * 32).receive(Incoming(text, {}, b"{}")),
    "delete source": lambda platform, text: platform.intake("k" * 32).delete(text),
    "revoke": lambda platform, text: platform.auth.revoke(text),
    "authenticate": lambda platform, text: platform.auth.authenticate(text),
    "job type": lambda platform, text: platform.catalogue.get(text),
}
NARROWED = ("queue", "name", "tag", "search")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
@pytest.mark.parametrize("what", ASKED)
def test_what_has_such_a_name_is_not_there(platform, what, text):
    with pytest.raises(CallboardError) as refusal:
        ASKED[what](platform, text)
    assert refusal.value.code in {"NOT_FOUND", "VALIDATION_ERROR", "UNAUTHORIZED", "UNKNOWN_JOB"}


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
@pytest.mark.parametrize("field", NARROWED)
def test_a_filter_by_such_a_text_finds_nothing_or_is_refused(platform, field, text):
    which = JobFilter(**{field: text})
    for ask in (
        lambda: platform.jobs.page(which).items,
        lambda: platform.control.bulk(Verb.CANCEL, which).matched,
    ):
        with suppress(InvalidInput):
            assert not ask()
