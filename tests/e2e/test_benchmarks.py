"""The benchmark runs: the smallest case of all, as its command."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_drain_measures_both_contenders(tmp_path):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "PYTEST_"))}
    lines = tmp_path / "lines"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "drain-sync", "--quick", "--json", str(lines)],
        cwd=ROOT, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [record.get("subject") for record in records] == ["callboard", "dramatiq", None]
    for record in records[:2]:
        assert record["figures"]["rate"] > 0
        # the kernel counts hundredths of a second, and so few jobs may take less
        assert record["figures"]["cpu_us"] >= 0
    assert records[2]["target"] == {"figure": "rate", "at_least": 3.5, "of": "dramatiq"}
    assert "target  rate >= 3.5x dramatiq" in done.stdout
