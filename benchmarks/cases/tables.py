"""Big tables: reads beside 1,000,000 finished jobs, the feeder and the gauges with 1,000,000 queued jobs."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks import loading, serving
from benchmarks.arena import Arena
from benchmarks.harness import Case, Figures, Target, percentiles
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.gauges import Gauges

JOBS: Final = 1_000_000
_QUICK_JOBS: Final = 5_000
#: How often each request is measured.
_CALLS: Final = 40
_PAGE: Final = 50
_ROUNDS: Final = 60
#: How often the feeder fills an empty Redis. It takes about ten rounds.
_FILLS: Final = 10
LISTS: Final[dict[str, dict[str, str]]] = {
    "all": {},
    "succeeded": {"state": "succeeded"},
    "failed": {"state": "failed"},
    "running": {"state": "running"},
    "queue": {"queue": "queue3"},
    "queue_rare": {"queue": "rare"},
    "queue_failed": {"state": "failed", "queue": "queue7"},
    "name": {"name": "job7"},
    "name_rare": {"name": "rare"},
    "name_none": {"name": "nothing"},
    "tag": {"tag": "tag100"},
    "tag_common": {"tag": "team0"},
    "since": {"since": "1h"},
    "since_now": {"since": "1s"},
    "until": {"until": "3d"},
    "until_end": {"until": "143h"},
    "until_before": {"until": "9d"},
    "queue_until": {"queue": "queue3", "until": "3d"},
    "queue_rare_until": {"queue": "rare", "until": "3d"},
}


class Reader:
    """Reads over HTTP with a viewer's key, on one keep-alive connection."""

    def __init__(self, arena: Arena, connection: http.client.HTTPConnection) -> None:
        _, token = arena.platform.auth.create(f"bench-{time.monotonic_ns()}", "viewer")
        self._connection = connection
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON of the response; raise RuntimeError if it is an error."""
        self._connection.request("GET", f"{path}?{urlencode(query)}", headers=self._headers)
        response = self._connection.getresponse()
        body = json.loads(response.read())
        if response.status != http.client.OK:
            raise RuntimeError(f"{path}: {body}")
        return body

    def page(self, **query: str) -> Any:
        """Return a page of jobs."""
        return self.get("/v1/jobs", limit=str(_PAGE), **query)


def read(arena: Arena) -> Figures:
    """Measure GET /v1/jobs with each filter, on second and late pages, and GET /v1/jobs/{id}: p95.

    `list_p95_ms` is that of the slowest list.
    """
    calls = arena.size(_CALLS, 3)
    with serving.api(arena) as port, closing(serving.connect(port)) as connection:
        reader = Reader(arena, connection)
        lists = {name: _p95(partial(reader.page, **query), calls) for name, query in LISTS.items()}
        # jobs are half a second apart, so a fifth of them are newer than this page
        far_down = reader.page(until=f"{arena.size(JOBS, _QUICK_JOBS) // 10}s")["next_cursor"]
        lists["far_down"] = _p95(partial(reader.page, cursor=far_down), calls)
        for name in ("queue", "tag"):
            second = reader.page(**LISTS[name])["next_cursor"]
            if second is not None:
                lists[f"{name}_second"] = _p95(partial(reader.page, cursor=second, **LISTS[name]), calls)
        sample = arena.sql("SELECT id FROM callboard.jobs TABLESAMPLE SYSTEM (10) LIMIT :calls", calls=calls)
        ids = iter([row.id for row in sample])
        shown = _p95(lambda: reader.get(f"/v1/jobs/{next(ids)}"), len(sample))
    return {
        "list_p95_ms": max(lists.values()),
        "show_p95_ms": shown,
        **{f"{name}_ms": value for name, value in lists.items()},
    }


def feed(arena: Arena) -> Figures:
    """Measure rounds of the feeder that fill an empty Redis or find it full, and one round of the gauges."""
    feeder = Feeder(arena.platform, SYSTEM)
    filling: list[float] = []
    for _ in range(arena.size(_FILLS, 1)):
        arena.redis.flushall()
        brought = 1
        while brought:
            started = time.perf_counter()
            brought = feeder.round()
            filling.append(time.perf_counter() - started)
        # This one brought nothing.
        filling.pop()
    ticks = percentiles([_duration(feeder.round) for _ in range(arena.size(_ROUNDS, 5))])
    fills = percentiles(filling)
    gauges = Gauges(arena.platform.queues)
    counting = _duration(gauges.round)
    gauges.clear()
    return {
        "tick_p50_ms": ticks["p50_ms"],
        "tick_p95_ms": ticks["p95_ms"],
        "filling_p50_ms": fills["p50_ms"],
        "filling_p95_ms": fills["p95_ms"],
        "filling_max_ms": max(filling) * 1000,
        "gauges_ms": counting * 1000,
    }


def _duration(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _p95(call: Callable[[], Any], calls: int) -> float:
    return percentiles([_duration(call) for _ in range(calls)])["p95_ms"]


@contextmanager
def _filled(arena: Arena, fill: Callable[[Arena, int], None]) -> Iterator[None]:
    fill(arena, arena.size(JOBS, _QUICK_JOBS))
    yield
    arena.reset()


CASES = [
    Case(
        "tables-read",
        "with 1,000,000 finished jobs: lists of 50 over HTTP, one job",
        {"callboard": read},
        [Target("list_p95_ms", at_most=50), Target("show_p95_ms", at_most=50)],
        around=lambda arena: _filled(arena, loading.finished),
    ),
    Case(
        "tables-feed",
        "with 1,000,000 jobs queued in 10 queues: a round of the feeder",
        {"callboard": feed},
        [Target("tick_p95_ms", at_most=50), Target("filling_p95_ms", at_most=50)],
        around=lambda arena: _filled(arena, loading.queued),
    ),
]
