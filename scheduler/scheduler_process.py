"""`callboard run scheduler`: the process of the scheduler. APScheduler drives its loops."""

import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from threading import Event
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from prometheus_client import REGISTRY, Counter

from callboard.config.embedded import ServerUrls
from callboard.config.metrics_server import serving
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.platform import Platform
from callboard.jobs.redis.link import RedisUnavailable
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.gauges import GAUGE_EVERY, Gauges
from callboard.scheduler.leader import Leader
from callboard.scheduler.listener import Listener
from callboard.scheduler.pruner import Pruner
from callboard.scheduler.reaper import Reaper
from callboard.scheduler.watch import LOOK_EVERY, Watch

TICKS = Counter("callboard_schedule_ticks_total", "Ticks decided, by what became of them.", ["result"])

_LEAD_EVERY: Final = 2.0
_PRUNE_EVERY: Final = 60.0

log = structlog.get_logger(__name__)


def run(settings: Settings, urls: ServerUrls) -> int:
    """Schedule until SIGTERM or SIGINT; return the exit code."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as opened:
        platform = Platform(
            sqlalchemy_url(urls.database_url), urls.redis_url, lease=settings.lease_ttl, pool_size=8,
            application="callboard scheduler", schema=settings.schema_name,
        )  # fmt: skip
        opened.callback(platform.close)
        if settings.metrics_port is not None:
            opened.enter_context(serving(settings.metrics_host, settings.metrics_port, REGISTRY))
        Scheduler(platform, settings, opened)
        log.info("scheduler.started")
        while not stopping.wait(0.2):
            pass
        log.info("scheduler.stopping")
    return 0


class Scheduler:
    """The loops, and the clock that calls them. They end when `opened` is closed."""

    def __init__(self, platform: Platform, settings: Settings, opened: ExitStack) -> None:
        self._clock = clock = _clock()
        self._guards: dict[str, _LoopWork] = {}
        self._leader = Leader(platform.database)
        opened.callback(self._leader.resign)
        feeder = Feeder(platform, SYSTEM)
        ticker = platform.ticker()
        gauges = Gauges(platform.queues)

        def tick() -> None:
            for decided in ticker.tick():
                TICKS.labels(decided.result).inc()

        def lead() -> None:
            # The watch of a leader verifies the lock, so only a standby tries to take it here.
            if not self._leader.leads:
                self._leader.check()
            if not self._leader.leads:
                gauges.clear()
                # A standby has nothing to feed, so it does not lag.
                feeder.rest()

        self._leader.check()
        listener = Listener(platform.database, feeder, self._leader)
        listener.start()
        opened.callback(listener.stop)
        watch = Watch(self._leader, feeder, Reaper(platform.workers, SYSTEM), tick, self._start)

        def look() -> None:
            pause = watch.look()
            if pause < LOOK_EVERY:
                clock.modify_job("look", next_run_time=SYSTEM.now() + timedelta(seconds=pause))

        self._every(_LEAD_EVERY, "lead", lead, always=True)
        self._every(LOOK_EVERY, "look", look)
        self._every(GAUGE_EVERY, "gauges", gauges.round)
        pruner = Pruner(
            platform.retention, succeeded=settings.retention.succeeded, other=settings.retention.other
        )
        self._every(_PRUNE_EVERY, "prune", pruner.round)
        clock.start()
        opened.callback(clock.shutdown)

    def _start(self, name: str, work: Callable[[], object]) -> None:
        """Run this now in a thread of the clock, unless the last run with this name still runs."""
        if name not in self._guards:
            self._guards[name] = _LoopWork(name)
        self._clock.add_job(self._guards[name], args=(work,), id=name, replace_existing=True)

    def _every(self, seconds: float, name: str, work: Callable[[], object], *, always: bool = False) -> None:
        guarded = _LoopWork(name)

        def beat() -> None:
            if always or self._leader.leads:
                guarded(work)

        self._clock.add_job(beat, "interval", seconds=seconds, id=name)


def _clock() -> BackgroundScheduler:
    """Return a clock that runs late calls once and never drops a call."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    return BackgroundScheduler(
        timezone="UTC",
        executors={"default": ThreadPoolExecutor(8)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )


class _LoopWork:
    """Runs the work of a loop. An error does not end the loop.

    An outage is logged once when it begins and once when it ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._away = False

    def __call__(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Busy as error:
            # Postgres answers: it refused one statement. The next call repeats it.
            STORE_ERRORS.labels("postgres", self._name).inc()
            log.warning("scheduler.refused", loop=self._name, reason=error.message)
            return
        except Unavailable as error:
            store = "redis" if isinstance(error, RedisUnavailable) else "postgres"
            STORE_ERRORS.labels(store, self._name).inc()
            if not self._away:
                log.warning("scheduler.waiting", loop=self._name, reason=error.message)
            self._away = True
            return
        except Exception:  # a loop that ended would stop the platform without a message
            log.exception("scheduler.loop_failed", loop=self._name)
            return
        if self._away:
            log.info("scheduler.recovered", loop=self._name)
        self._away = False
