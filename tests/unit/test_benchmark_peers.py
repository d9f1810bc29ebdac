"""The peers of the benchmark, as far as they can be looked at without being installed."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.cases import every
from benchmarks.harness import with_peers
from benchmarks.peers import guest

APPS = Path(guest.__file__).parent / "apps"


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """The venv of the peers, with nothing in it."""
    monkeypatch.setattr(guest, "VENV", tmp_path)
    return tmp_path / "lib/python3.11/site-packages"


@pytest.fixture
def app(monkeypatch):
    """A module of apps/, which imports its neighbours by their short names."""
    monkeypatch.syspath_prepend(str(APPS))
    yield __import__
    for path in APPS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_a_peer_that_is_not_installed_is_skipped_with_a_line_that_says_what_to_do(venv, capsys):
    assert peers.installed() == []
    lines = capsys.readouterr().err.splitlines()
    assert "pgqueuer is not installed: skipped (make bench-peers)" in lines
    assert len(lines) == 7


def test_a_peer_that_is_installed_joins_cases_that_there_are(venv):
    for package in ("pgqueuer", "procrastinate", "celery", "rq", "huey", "taskiq_redis"):
        (venv / package).mkdir(parents=True)
    found = peers.installed()
    assert len(found) == 7
    names = {case.name for case in every()}
    assert all(set(peer.contenders) <= names and set(peer.targets) <= names for peer in found)
    joined = {case.name: case for case in with_peers(every(), found)}
    for name in ("drain-sync", "drain-async", "enqueue-bulk"):
        assert "pgqueuer" in {target.of for target in joined[name].targets}


def test_every_version_is_pinned_and_no_index_is_named():
    lines = (APPS.parent / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert len(wanted) > 6
    assert all(re.fullmatch(r"[a-z-]+(\[[a-z,]+\])?==[\d.]+", line) for line in wanted)


def test_a_ledger_gets_every_run_once_however_often_it_is_noted(app, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_LEDGER", str(tmp_path / "ledger"))
    counting = app("counting")
    for runs in (3, 0, 2):
        for _ in range(runs):
            counting.one()
        counting.note(sender="a worker")
    assert (tmp_path / "ledger").read_text().split() == ["3", "0", "2"]
