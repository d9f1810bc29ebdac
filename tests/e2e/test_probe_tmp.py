import time, signal
from tests.e2e.stage import *
from tests.e2e.conftest import stage
def test_plain(stage):
    stage.enqueue_many("ledger", 4000)
    stage.start("scheduler")
    stage.worker(processes=2, threads=8)
    t=time.monotonic()
    while stage.states()["succeeded"]<4000:
        print(f"{time.monotonic()-t:.1f}", dict(stage.states()), stage.platform.transport.depth("default"), flush=True); time.sleep(0.5)
    print(f"{time.monotonic()-t:.1f}")
def test_outage(redis_url):
    with own_servers() as servers:
        servers.postgres.ensure()
        with own_stage(servers, servers.urls.database_url, redis_url) as stage:
            stage.start("scheduler")
            stage.enqueue_many("ledger", 4000)
            worker = stage.worker(processes=2, threads=8)
            until(lambda: stage.states()["succeeded"] >= 500)
            strike(servers.postgres, signal.SIGQUIT)
            servers.postgres.ensure()
            stage.platform.database.close()
            t=time.monotonic()
            while stage.states()["succeeded"]<4000:
                print(f"{time.monotonic()-t:.1f}", dict(stage.states()), stage.platform.transport.depth("default"), flush=True); time.sleep(1)
            print(f"{time.monotonic()-t:.1f}")
