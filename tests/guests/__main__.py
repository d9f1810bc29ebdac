"""`make guests`: programs written for Dramatiq, and its extensions, run as guests. Prints a table.

The worker runs each program unedited: its broker names a server that does not exist. The program that sends
has the documented change: the line of the broker makes a CallboardBroker. Run it by the Python of the guests.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.stage import Stage, own_servers, own_stage

PROGRAMS = Path(__file__).with_name("programs")
#: What the line that ends with this comment becomes in the program that sends.
LINE = "  # the broker's line"
CHANGES = (
    ('RedisBroker(url="redis://127.0.0.1:1/0")', "CallboardBroker()"),
    ("dramatiq.brokers.redis:RedisBroker", "callboard.dramatiq:CallboardBroker"),
    ("dramatiq.brokers.redis.RedisBroker", "callboard.dramatiq.CallboardBroker"),
)
_LONGEST = 90


def edited(text: str) -> str:
    """Return the program with the documented change."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.endswith(LINE):
            for old, new in CHANGES:
                lines[number] = lines[number].replace(old, new)
    if any("= CallboardBroker()" in line for line in lines):
        lines.insert(1, "from callboard.dramatiq import CallboardBroker")
    return "\n".join(lines) + "\n"


def tried(stage: Stage, name: str) -> str:
    """Run one guest; return `works`, or the last line of what went wrong."""
    text = (PROGRAMS / f"{name}.py").read_text()
    sender = stage.folder / f"sender-{name}"
    sender.mkdir()
    (stage.folder / f"{name}.py").write_text(text)
    (sender / f"{name}.py").write_text(edited(text))
    (sender / "use.py").write_text((PROGRAMS / f"use_{name}.py").read_text())
    extra = {"GUEST_NOTES": str(stage.folder / f"notes-{name}")}
    worker = stage.worker(jobs=name, threads=4, extra=extra)
    try:
        done = subprocess.run(
            [sys.executable, "use.py"],
            cwd=sender,
            env=stage.environment(jobs=name) | extra,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
        limits = [f"{one['what']}: {one['reason']}" for one in worker.events("worker.not_honoured")]
    finally:
        worker.kill_all()
    if done.returncode:
        print(done.stderr, worker.log.read_text()[-3000:], file=sys.stderr)
        return done.stderr.strip().splitlines()[-1]
    return "; ".join(["works", *limits])


def main() -> int:
    names = sys.argv[1:] or sorted(
        path.stem for path in PROGRAMS.glob("*.py") if not path.stem.startswith("use_")
    )
    results = {}
    with own_servers() as servers:
        urls = servers.ensure()
        with own_stage(servers, urls.database_url, urls.redis_url) as stage:
            stage.start("scheduler")
            for name in names:
                results[name] = tried(stage, name)
    print("| guest | what it is | outcome |\n|---|---|---|")
    for name, outcome in results.items():
        what = (PROGRAMS / f"{name}.py").read_text().partition('"""')[2].partition('"""')[0]
        print(f"| `{name}` | {what} | {outcome} |")
    return int(any(not outcome.startswith("works") for outcome in results.values()))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
