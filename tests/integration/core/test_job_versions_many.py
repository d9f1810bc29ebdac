"""Job versions in large numbers, and publications at the same time."""

from concurrent.futures import ThreadPoolExecutor

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.job_type import JobType
from callboard.jobs.retention.retention import RetentionSpans
from tests.integration.core.factories import run_sql

TYPES, VERSIONS = 1_000, 10


def fill(order_id: int, note: str = "") -> None: ...


SCHEMA = describe(fill).schema


def kind(name: str, version: int) -> JobType:
    return JobType(name, "filling", SCHEMA, 5, version, None, "", module="shop")


def boot_all(platform, version: int, workers: int) -> list:
    """Workers that run this version of all job types start."""
    names = [f"fill_{number:04}" for number in range(TYPES)]
    published = platform.catalogue.publish([kind(name, version) for name in names])
    keys = tuple(one.key for one in published)
    ids = [new_id() for _ in range(workers)]
    for worker in ids:
        platform.workers.register(WorkerCard(worker, "host", 1, (), tuple(names), 1, 1, keys))
    return ids


def add_old_versions(platform) -> None:
    run_sql(
        platform,
        "INSERT INTO callboard.job_versions (name, digest, queue, schema, defaults, module, published_at)"
        " SELECT v.name, 'old' || n, v.queue, v.schema, v.defaults, v.module, v.published_at - n * interval '1 h'"
        " FROM callboard.job_versions v, generate_series(3, :versions) n WHERE v.digest <> 'old'"
        " ON CONFLICT DO NOTHING",
        versions=VERSIONS,
    )


def test_a_thousand_job_types_of_ten_versions_each_are_read_while_workers_run_two_of_them(platform):
    boot_all(platform, 1, workers=3)
    [worker, *_] = boot_all(platform, 2, workers=3)
    add_old_versions(platform)
    versions = platform.catalogue.versions()
    assert len(versions) == TYPES * VERSIONS
    assert {one.workers for one in versions if one.is_current} == {3}
    assert len(platform.catalogue.find("fill_0500")) == 2
    platform.workers.end(worker, suspects=())
    assert {one.workers for one in platform.catalogue.versions() if one.workers} == {2, 3}


def test_the_live_ones_of_ten_thousand_versions_are_kept_and_the_others_are_pruned(platform):
    boot_all(platform, 1, workers=1)
    add_old_versions(platform)
    run_sql(platform, "UPDATE callboard.job_versions SET seen_at = now() - interval '31 days'")
    platform.retention.prune(RetentionSpans())
    assert {one.workers for one in platform.catalogue.versions()} == {1}


def test_publications_of_several_versions_at_the_same_time_do_not_deadlock(platform):
    def deadlocks() -> int:
        with platform.database.autocommit() as connection:
            statement = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            return connection.exec_driver_sql(statement).scalar_one()

    def publish(version: int) -> None:
        for _ in range(5):
            kinds = [kind(f"fill_{number}", version) for number in range(50)]
            platform.catalogue.publish(kinds, announced=version % 2 == 0)

    before = deadlocks()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publish, range(1, 9)))
    assert deadlocks() == before
    assert len(platform.catalogue.versions()) == 8 * 50
