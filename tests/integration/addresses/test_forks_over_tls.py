"""A forked process opens TLS connections of its own; those of the process that it was copied from go on."""

from tests.integration.addresses.test_guarded_servers import JOBS, environment, run

#: Enqueues, forks, and enqueues in all processes at the same time. Prints how many jobs there are.
PROGRAM = """
import os, sys
import shop_jobs
from callboard import Client
from callboard.jobs.dramatiq.definition import define

def enqueue(client, count):
    for number in range(count):
        client.enqueue("add", {"a": number, "b": 2})
        shop_jobs.add.enqueue(number, b=2)

with Client.from_env() as client:
    client.platform.migrations.upgrade()
    client.platform.catalogue.publish([define(shop_jobs.add).type])
    enqueue(client, 5)
    copies = []
    for way in ("hard", "soft", "hard", "soft"):
        copy = os.fork()
        if copy == 0:
            try:
                enqueue(client, 5)
                if way == "soft":
                    client.close()
                    sys.exit(0)
                os._exit(0)
            except Exception:
                import traceback
                traceback.print_exc()
                os._exit(1)
        copies.append(copy)
        enqueue(client, 5)
    assert [os.waitpid(copy, 0)[1] for copy in copies] == [0] * 4
    enqueue(client, 5)
    print(client.bulk("cancel", state="queued", limit=1000).matched)
"""


def test_forked_processes_enqueue_over_tls_beside_the_first_one(guarded, tmp_path):
    (tmp_path / "shop_jobs.py").write_text(JOBS)
    env = environment(guarded, tmp_path, "TLS", "TLS")
    done = run(env, "-c", PROGRAM)
    assert (done.returncode, done.stdout.strip()) == (0, "100"), done.stderr
