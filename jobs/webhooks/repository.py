"""SQL for webhook sources and their deliveries."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA, columns
from callboard.jobs.postgres.statements import Texts, Uuids
from callboard.jobs.webhooks.delivery import NewDelivery, StoredDelivery
from callboard.jobs.webhooks.source import WebhookSource

#: xmin is the id of the transaction that last wrote the row, so it changes with every update.
_COLUMNS: Final = columns(WebhookSource, version="xmin::text")
_CREATE: Final = text(f"""
INSERT INTO {SCHEMA}.webhook_sources (id, name, scheme, job, events, secrets)
VALUES (:id, :name, :scheme, :job, CAST(:events AS text[]), CAST(:secrets AS text[])) RETURNING {_COLUMNS}
""")


def create(connection: Connection, values: dict[str, Any]) -> WebhookSource:
    """Insert a source; `values` are by column. Raises Duplicate when the name is taken."""
    return WebhookSource(*connection.execute(_CREATE, values).one())


_LIST: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.webhook_sources ORDER BY name LIMIT 1000")
_NAMED: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.webhook_sources WHERE name = ANY(:names)")
_DELETE: Final = text(f"DELETE FROM {SCHEMA}.webhook_sources WHERE name = :name")


def every(connection: Connection) -> list[WebhookSource]:
    """Return the sources, sorted by name; 1,000 at most."""
    return [WebhookSource(*row) for row in connection.execute(_LIST)]


def named(connection: Connection, names: Sequence[str]) -> list[WebhookSource]:
    """Return the sources that exist among these names."""
    return [WebhookSource(*row) for row in connection.execute(_NAMED, {"names": list(names)})]


def delete(connection: Connection, name: str) -> bool:
    """Delete a source and its deliveries; returns False when there is none of this name."""
    return connection.execute(_DELETE, {"name": name}).rowcount == 1


_GIVEN: Final = """
unnest(
  CAST(:ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:versions AS text[]), CAST(:external_ids AS text[]),
  CAST(:events AS text[]), CAST(:hashes AS text[]), CAST(:job_ids AS uuid[])
) AS i(id, source_id, source_version, external_id, event, body_sha256, job_id)"""
# The rows of the sources are locked until the commit: no source is deleted before its delivery is committed.
# SKIP LOCKED: if another transaction is deleting or changing a source, its deliveries are not stored and
# nothing waits. ORDER BY: all transactions insert the same ids in the same order, so they wait for each other
# without a deadlock.
_ACCEPT: Final = text(f"""
WITH s AS MATERIALIZED (
  SELECT id, xmin::text AS version FROM {SCHEMA}.webhook_sources
  WHERE id = ANY(:source_ids) FOR KEY SHARE SKIP LOCKED
)
INSERT INTO {SCHEMA}.webhook_deliveries (id, source_id, external_id, event, body_sha256, job_id)
SELECT i.id, i.source_id, i.external_id, i.event, i.body_sha256, i.job_id
FROM {_GIVEN}
JOIN s ON s.id = i.source_id AND s.version = i.source_version
ORDER BY i.source_id, i.external_id, i.id
ON CONFLICT (source_id, external_id) DO NOTHING RETURNING id
""")
_EARLIER: Final = text(f"""
SELECT d.source_id, d.external_id, {columns(StoredDelivery, "d")}
FROM {_GIVEN}
JOIN {SCHEMA}.webhook_sources s ON s.id = i.source_id AND s.xmin::text = i.source_version
JOIN {SCHEMA}.webhook_deliveries d ON d.source_id = i.source_id AND d.external_id = i.external_id
""")
_ATTACH: Final = text(f"""
UPDATE {SCHEMA}.webhook_deliveries d SET job_id = i.job
FROM unnest(CAST(:ids AS uuid[]), CAST(:jobs AS uuid[])) AS i(id, job)
WHERE d.id = i.id
""")


def accept(connection: Statements, deliveries: Sequence[NewDelivery]) -> set[UUID]:
    """Insert deliveries; returns the ids of those that were inserted.

    A delivery is left out when its external id is stored already, or when its source has changed since the
    delivery was verified. If another transaction is inserting the same external id, this waits for it.
    """
    return {id_ for (id_,) in connection.execute(_ACCEPT, _given(deliveries))} if deliveries else set()


def earlier(
    connection: Statements, deliveries: Sequence[NewDelivery]
) -> dict[tuple[UUID, str], StoredDelivery]:
    """Return the stored deliveries with the same external ids, by source id and external id.

    A delivery whose source has changed since it was verified is left out.
    """
    found = {}
    for source_id, external_id, *stored in connection.execute(_EARLIER, _given(deliveries)):
        found[source_id, external_id] = StoredDelivery(*stored)
    return found


def attach(connection: Statements, jobs: Mapping[UUID, UUID]) -> None:
    """Set the jobs of deliveries, by delivery id. With a unique key, the job can be an older one."""
    connection.execute(_ATTACH, {"ids": Uuids(jobs.keys()), "jobs": Uuids(jobs.values())})


def _given(deliveries: Sequence[NewDelivery]) -> dict[str, Any]:
    """Return the parameters of _GIVEN: one array for each column."""
    return {
        "ids": Uuids([one.id for one in deliveries]),
        "source_ids": Uuids([one.source_id for one in deliveries]),
        "versions": Texts([one.source_version.encode() for one in deliveries]),
        "external_ids": Texts([one.external_id.encode() for one in deliveries]),
        "events": Texts([one.event.encode() for one in deliveries]),
        "hashes": Texts([one.body_sha256.encode() for one in deliveries]),
        "job_ids": Uuids([one.job_id for one in deliveries]),
    }
