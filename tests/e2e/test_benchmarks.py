"""The benchmark runs: few jobs of some cases, as its command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def quick(tmp_path, case):
    """The records of a quick run of a case, and what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "PYTEST_"))}
    lines = tmp_path / "lines"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", case, "--quick", "--json", str(lines)],
        cwd=ROOT, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in lines.read_text().splitlines()], done.stdout


@pytest.mark.long
def test_a_quick_drain_measures_both_contenders(tmp_path):
    records, printed = quick(tmp_path, "drain-sync")
    assert [record.get("subject") for record in records] == ["callboard", "dramatiq", None]
    for record in records[:2]:
        assert record["figures"]["rate"] > 0
        # the kernel counts hundredths of a second, and so few jobs may take less
        assert record["figures"]["cpu_us"] >= 0
    assert records[2]["target"] == {"figure": "rate", "at_least": 3.5, "of": "dramatiq"}
    assert "target  rate >= 3.5x dramatiq" in printed


@pytest.mark.long
def test_the_doors_are_measured_beside_an_endpoint_that_does_nothing(tmp_path):
    records, _ = quick(tmp_path, "http")
    measured = [(record["case"], record["subject"]) for record in records if "subject" in record]
    assert measured == [
        (case, subject)
        for case in ("http-jobs", "http-webhook")
        for subject in ("callboard", "empty endpoint")
    ]
    assert all(record["figures"]["rate"] > 0 for record in records if "subject" in record)


@pytest.mark.long
def test_a_quick_siege_has_a_row_for_each_attack():
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.siege", "--quick", "silent", "bodies-jobs"],
        cwd=ROOT, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, _, silent, bodies = done.stdout.splitlines()
    assert silent.startswith("| 1,050 sockets that send nothing |")
    assert bodies.startswith("| 300 such bodies to /v1/jobs, right key |")
    assert all(row.count(" / ") == 8 for row in (silent, bodies))


@pytest.mark.parametrize("case", ["tables", "idle"])
@pytest.mark.long
def test_big_tables_and_an_idle_platform_are_measured(tmp_path, case):
    records, _ = quick(tmp_path, case)
    verdicts = [record for record in records if "target" in record]
    assert verdicts
    assert all(record["value"] is not None for record in verdicts)
