"""gevent and eventlet are recognised by what they have replaced, and are not imported for it."""

import sys
from types import SimpleNamespace

import pytest

from callboard.jobs.errors import InvalidInput
from callboard.workers.process import green_threads


def gevent(*patched):
    return SimpleNamespace(is_module_patched=lambda name: name in patched)


def eventlet(**patched):
    return SimpleNamespace(already_patched=patched)


@pytest.mark.parametrize(
    ("module", "stand_in", "library"),
    [
        ("gevent.monkey", gevent("threading", "socket"), "gevent"),
        ("gevent.monkey", gevent("socket"), "gevent"),
        ("gevent.monkey", gevent("ssl"), None),
        ("gevent.monkey", gevent(), None),
        ("eventlet.patcher", eventlet(thread=True), "eventlet"),
        ("eventlet.patcher", eventlet(os=True), None),
    ],
)
def test_a_library_is_named_when_it_has_replaced_threads_or_sockets(monkeypatch, module, stand_in, library):
    monkeypatch.setitem(sys.modules, module, stand_in)
    assert green_threads.patched_by() == library
    if library is None:
        green_threads.refuse()
    else:
        with pytest.raises(InvalidInput, match=rf"sockets with {library} \(monkey patching\)"):
            green_threads.refuse()


def test_without_the_library_nothing_is_imported():
    assert green_threads.patched_by() is None
    assert not {"gevent", "eventlet"} & set(sys.modules)
