"""Which modules a short command imports. Imports are nearly all of its time."""

import os
import subprocess
import sys

import pytest

HEAVY = (
    "alembic", "apscheduler", "asyncpg", "cryptography.hazmat", "dramatiq", "fastapi", "httpx", "jsonschema_rs",
    "psutil", "redis", "sqlalchemy.orm", "starlette", "uvicorn", "uvloop",
    "callboard.api", "callboard.jobs.attempts.leases", "callboard.jobs.enqueue", "callboard.jobs.webhooks",
)  # fmt: skip
PROGRAM = f"""
import sys
from callboard.cli.main import main
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("command", [("job", "list"), ("job", "show", "ID"), ("config",), ("--help",)])
def test_a_short_command_imports_no_heavy_module(callboard, enqueued, command):
    given = [enqueued() if word == "ID" else word for word in command]
    settings = {f"CALLBOARD_{key.upper()}": value for key, value in callboard.settings.items()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given], env={**os.environ, **settings}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
