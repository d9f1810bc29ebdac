"""`callboard run scheduler`: the process of the scheduler. It puts its loops together."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event
from typing import Final

import structlog
from prometheus_client import REGISTRY, Counter

from callboard.config.embedded import ServerUrls
from callboard.config.last_resort import end_at_latest
from callboard.config.metrics_server import serving
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.inspection.inspection import UNREADABLE_ROWS
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.platform import Platform
from callboard.jobs.retention.retention import RetentionSpans
from callboard.scheduler.database_clock import DatabaseClock
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.gauges import GAUGE_EVERY, Gauges
from callboard.scheduler.leader import Leader
from callboard.scheduler.listener import Listener
from callboard.scheduler.loops import Loops
from callboard.scheduler.pruner import Pruner
from callboard.scheduler.rate_timer import RateTimer
from callboard.scheduler.reaper import Reaper
from callboard.scheduler.watch import LOOK_EVERY, Watch

TICKS = Counter("callboard_schedule_ticks_total", "Ticks decided, by what became of them.", ["result"])

_LEAD_EVERY: Final = 2.0
_PRUNE_EVERY: Final = 60.0
_INSPECT_EVERY: Final = 60.0
#: A mark is kept for 30 seconds.
_MARK_EVERY: Final = 10.0
#: While it stops: how long a statement waits, how long all of them wait, and when the process ends in spite
#: of a thread that hangs. Seconds.
_STOP_ANSWER: Final = 3.0
_LONGEST_STOP: Final = 8.0
_LAST_RESORT: Final = 5.0

log = structlog.get_logger(__name__)


def run(settings: Settings, urls: ServerUrls) -> int:
    """Schedule until SIGTERM or SIGINT; return the exit code."""
    stopping = Event()
    left = min(settings.grace.total_seconds(), _LONGEST_STOP)
    with ExitStack() as opened:
        platform = Platform(
            sqlalchemy_url(urls.direct_url), urls.redis_url, lease=settings.lease_ttl, pool_size=8,
            application="callboard scheduler", schema=settings.schema_name, allow_pooler=False,
        )  # fmt: skip
        opened.callback(platform.close)

        def stop(*_: object) -> None:
            if not stopping.is_set():
                stopping.set()
                # Here, because the main thread may wait for Postgres. The loops end after the statement that
                # runs, whatever Postgres does.
                platform.database.hurry(_STOP_ANSWER, left)
                end_at_latest(left + _LAST_RESORT)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        platform.database.refuse_pooler()
        if settings.metrics_port is not None:
            opened.enter_context(serving(settings.metrics_host, settings.metrics_port, REGISTRY))
        Scheduler(platform, settings, opened)
        log.info("scheduler.started")
        while not stopping.wait(0.2):
            pass
        log.info("scheduler.stopping")
    return 0


class Scheduler:
    """The loops of the scheduler. They end when `opened` is closed."""

    def __init__(self, platform: Platform, settings: Settings, opened: ExitStack) -> None:
        leader = Leader(platform.database)
        opened.callback(leader.resign)
        feeder = Feeder(platform, SYSTEM)
        ticker = platform.ticker()
        gauges = Gauges(platform.queues)

        def tick() -> None:
            for decided in ticker.tick():
                TICKS.labels(decided.result).inc()

        def realign() -> None:
            ticker.realign()
            platform.workers.shorten()
            platform.grants.realign()

        def lead() -> None:
            # The watch of a leader verifies the lock, so only a standby tries to take it here.
            if not leader.leads:
                leader.check()
            if not leader.leads:
                gauges.clear()
                UNREADABLE_ROWS.clear()
                # A standby has nothing to feed, so it does not lag.
                feeder.rest()

        leader.check()
        listener = Listener(platform.database, feeder, leader)
        listener.start()
        opened.callback(listener.stop)
        rates = RateTimer(feeder, leader, SYSTEM)
        feeder.on_next_free = rates.call_in
        rates.start()
        opened.callback(rates.stop)
        pruner = Pruner(platform.retention, _spans(settings))
        loops = Loops()
        opened.callback(loops.stop)
        watch = Watch(
            leader,
            feeder,
            Reaper(platform.workers, SYSTEM),
            tick,
            loops.run_soon,
            look=platform.feed.look_as_leader,
            clock=DatabaseClock(SYSTEM),
            realign=realign,
            on_ahead=pruner.on_jump,
        )
        loops.every(_LEAD_EVERY, "lead", lead)
        loops.paced(LOOK_EVERY, "look", watch.look)
        loops.every(GAUGE_EVERY, "gauges", _if(watch, leader, gauges.round))
        loops.every(_PRUNE_EVERY, "prune", _if(watch, leader, pruner.round))
        loops.every(_MARK_EVERY, "mark_keys", _if(watch, leader, platform.key_sharing.mark))
        loops.every(_INSPECT_EVERY, "inspect", _if(watch, leader, platform.inspection.watch))


def _if(watch: Watch, leader: Leader, work: Callable[[], object]) -> Callable[[], None]:
    """Return a function that does the work while this scheduler leads and the tables fit it."""

    def checked() -> None:
        if leader.leads and watch.usable:
            work()

    return checked


def _spans(settings: Settings) -> RetentionSpans:
    return RetentionSpans(
        succeeded=settings.retention.succeeded,
        other=settings.retention.other,
        ticks=settings.retention_ticks,
        deliveries=settings.retention_deliveries,
        job_types=settings.retention_job_types,
    )
