"""Which modules each process does not load. Imports are most of a process's start and of its memory."""

import subprocess
import sys

import pytest

#: What only migrations, programs that use SQLAlchemy's ORM, or other processes need.
_NOWHERE = (
    "alembic",
    "asyncpg",
    "django",
    "httpx",
    "psutil",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
)
_UNUSED = {
    "callboard.cli.up": ("callboard.workers", "psycopg", "pydantic", "rich", "sqlalchemy", "structlog"),
    "callboard.workers.child_start": ("callboard.workers.child", "dramatiq", "psycopg", "redis", "sqlalchemy"),
    "callboard.workers.worker_process": ("callboard.workers.child", "prometheus_client", "psycopg", "redis", "sqlalchemy"),
    "callboard.workers.supervise.supervisor": (
        "apscheduler", "callboard.workers.child", "callboard.workers.execute", "click", "dramatiq", "fastapi",
        "jsonschema_rs", "uvloop",
    ),
    "callboard.workers.child": (
        "apscheduler", "callboard.config.embedded", "callboard.jobs.access", "callboard.jobs.schedules", "click",
        "cryptography.hazmat", "fastapi", "jsonschema_rs", "uvicorn",
    ),
    "callboard.scheduler.scheduler_process": (
        "callboard.workers", "click", "cryptography.hazmat", "dramatiq", "fastapi", "jsonschema_rs", "uvloop",
    ),
    "callboard.api.api_process": ("apscheduler", "callboard.workers", "cryptography.hazmat", "dramatiq", "jsonschema_rs"),
}  # fmt: skip


@pytest.mark.parametrize("module", _UNUSED)
def test_a_process_loads_no_module_that_it_does_not_use(module):
    unused = (*_NOWHERE, *_UNUSED[module])
    program = f"import sys, {module}; print([name for name in {unused!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
