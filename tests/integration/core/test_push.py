"""The tokens of a burst reach Redis, also those of a program that ends without closing its client."""

import os
import subprocess
import sys

import pytest

from callboard.jobs.enqueue import pusher
from callboard.jobs.model.request import JobRequest
from tests.integration.core.factories import PYTHON, publish, until, url_of

BURST = """
import sys
from callboard import Client
client = Client(database_url=sys.argv[1], redis_url=sys.argv[2])
for _ in range(30):
    client.enqueue("build_report", {"account_id": 1})
sys.exit(int(sys.argv[3]))
"""


@pytest.mark.parametrize("code", [0, 3])
def test_a_program_that_ends_after_a_burst_has_pushed_all_of_it(platform, redis_url, code):
    publish(platform)
    database_url = url_of(platform).replace("postgresql+psycopg", "postgresql")
    done = subprocess.run(
        [sys.executable, "-c", BURST, database_url, redis_url, str(code)],
        env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    assert platform.transport.depth("reports") == 30


def test_a_burst_is_pushed_without_a_close(platform, monkeypatch):
    monkeypatch.setattr(pusher, "_BURST", 60.0)
    publish(platform)
    request = JobRequest(name="build_report", kwargs={"account_id": 1})
    for _ in range(30):
        platform.enqueue.accept(platform.enqueue.check(request, PYTHON))
    until(lambda: platform.transport.depth("reports") == 30)
