"""`callboard run scheduler`: APScheduler drives the loops. Its composition root."""

import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from prometheus_client import Counter, start_http_server

from config.embedded import ServerUrls
from config.settings import Settings, sqlalchemy_url
from jobs.clock import SYSTEM
from jobs.errors import Unavailable
from jobs.metrics import STORE_ERRORS
from jobs.platform import Platform
from scheduler.cron import spec_calendar
from scheduler.feeder import Feeder
from scheduler.gauges import Gauges
from scheduler.leader import Leader
from scheduler.listener import Listener
from scheduler.pruner import Pruner
from scheduler.reaper import Reaper

TICKS = Counter("callboard_schedule_ticks_total", "Ticks decided, by what became of them.", ["result"])

_FEED_EVERY: Final = 0.25
_TICK_EVERY: Final = 0.5
_REAP_EVERY: Final = 2.0
_LEAD_EVERY: Final = 2.0
_GAUGES_EVERY: Final = 5.0
_PRUNE_EVERY: Final = 60.0

log = structlog.get_logger(__name__)


def run(settings: Settings, urls: ServerUrls) -> int:
    """Schedule until SIGTERM or SIGINT; returns the exit code."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as opened:
        platform = Platform(
            sqlalchemy_url(urls.database_url), urls.redis_url, lease=settings.lease_ttl, pool_size=8,
            application="callboard scheduler",
        )  # fmt: skip
        opened.callback(platform.close)
        if settings.metrics_port is not None:
            server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
            opened.callback(server.shutdown)
        Scheduler(platform, settings, opened)
        log.info("scheduler.started")
        while not stopping.wait(0.2):
            pass
        log.info("scheduler.stopping")
    return 0


class Scheduler:
    """The loops, and the clock that calls them, until `opened` is closed."""

    def __init__(self, platform: Platform, settings: Settings, opened: ExitStack) -> None:
        self._leader = Leader(platform.database)
        opened.callback(self._leader.resign)
        feeder = Feeder(platform.database, platform.transport, SYSTEM)
        ticker = platform.ticker(spec_calendar)
        gauges = Gauges(platform.database)

        def tick() -> None:
            for decided in ticker.tick():
                TICKS.labels(decided.result).inc()

        def lead() -> None:
            self._leader.check()
            if not self._leader.leads:
                gauges.clear()

        self._leader.check()
        listener = Listener(platform.database, feeder, self._leader)
        listener.start()
        opened.callback(listener.stop)
        clock = _clock()
        self._every(clock, _LEAD_EVERY, "lead", lead, always=True)
        self._every(clock, _FEED_EVERY, "feed", feeder.round)
        self._every(clock, _TICK_EVERY, "tick", tick)
        # Several times within a lease, however short that is set.
        reap_every = min(_REAP_EVERY, settings.lease_ttl.total_seconds() / 4)
        self._every(clock, reap_every, "reap", Reaper(platform.workers, SYSTEM).round)
        self._every(clock, _GAUGES_EVERY, "gauges", gauges.round)
        pruner = Pruner(
            platform.database, succeeded=settings.retention.succeeded, other=settings.retention.other
        )
        self._every(clock, _PRUNE_EVERY, "prune", pruner.round)
        clock.start()
        opened.callback(clock.shutdown)

    def _every(
        self,
        clock: BackgroundScheduler,
        seconds: float,
        name: str,
        work: Callable[[], object],
        *,
        always: bool = False,
    ) -> None:
        guarded = _Guarded(name, work)

        def beat() -> None:
            if always or self._leader.leads:
                guarded()

        clock.add_job(beat, "interval", seconds=seconds, id=name)


def _clock() -> BackgroundScheduler:
    """APScheduler, set so that a late or overlapping beat is one beat, and never dropped for being late."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    return BackgroundScheduler(
        timezone="UTC",
        executors={"default": ThreadPoolExecutor(8)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )


class _Guarded:
    """A loop's work that must outlive its own failures; an outage is said once when it begins and once when it ends."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._away = False

    def __call__(self) -> None:
        try:
            self._work()
        except Unavailable as error:
            STORE_ERRORS.labels(_store(error), self._name).inc()
            if not self._away:
                log.warning("scheduler.waiting", loop=self._name, reason=error.message)
            self._away = True
            return
        except Exception:  # a loop that ends would stop the platform without a word
            log.exception("scheduler.loop_failed", loop=self._name)
            return
        if self._away:
            log.info("scheduler.recovered", loop=self._name)
        self._away = False


def _store(error: Unavailable) -> str:
    return "redis" if error.message.startswith("Redis") else "postgres"
