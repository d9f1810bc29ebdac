"""Webhook sources and their deliveries."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.postgres.arrays import Texts, Uuids
from callboard.jobs.postgres.sql import SCHEMA
from callboard.jobs.webhooks.delivery import Kept, NewDelivery
from callboard.jobs.webhooks.source import WebhookSource

_COLUMNS: Final = "id, name, scheme, job, events, secrets, created_at, xmin::text AS version"
_CREATE: Final = text(f"""
INSERT INTO {SCHEMA}.webhook_sources (id, name, scheme, job, events, secrets)
VALUES (:id, :name, :scheme, :job, CAST(:events AS text[]), CAST(:secrets AS text[])) RETURNING {_COLUMNS}
""")


def create(connection: Connection, values: dict[str, Any]) -> WebhookSource:
    return WebhookSource(*connection.execute(_CREATE, values).one())


_LIST: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.webhook_sources ORDER BY name LIMIT 1000")
_NAMED: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.webhook_sources WHERE name = ANY(:names)")
_DELETE: Final = text(f"DELETE FROM {SCHEMA}.webhook_sources WHERE name = :name")


def every(connection: Connection) -> list[WebhookSource]:
    return [WebhookSource(*row) for row in connection.execute(_LIST)]


def named(connection: Connection, names: Sequence[str]) -> list[WebhookSource]:
    """Those of these names that there are."""
    return [WebhookSource(*row) for row in connection.execute(_NAMED, {"names": list(names)})]


def delete(connection: Connection, name: str) -> bool:
    return connection.execute(_DELETE, {"name": name}).rowcount == 1


_GIVEN: Final = """unnest(CAST(:ids AS uuid[]), CAST(:source_ids AS uuid[]), CAST(:versions AS text[]), CAST(:external_ids AS text[]),
  CAST(:events AS text[]), CAST(:hashes AS text[]), CAST(:job_ids AS uuid[]))
  AS i(id, source_id, source_version, external_id, event, body_sha256, job_id)"""
# A source that vouches for what is kept is held until the commit, so that nobody deletes it in between; one that is just
# being deleted is not waited for, and vouches for nothing.
# In one order for everybody: two that take the same ids wait for each other, and never in a ring.
_ACCEPT: Final = text(f"""
WITH s AS MATERIALIZED (
  SELECT id, xmin::text AS version FROM {SCHEMA}.webhook_sources WHERE id = ANY(:source_ids) FOR KEY SHARE SKIP LOCKED
)
INSERT INTO {SCHEMA}.webhook_deliveries (id, source_id, external_id, event, body_sha256, job_id)
SELECT i.id, i.source_id, i.external_id, i.event, i.body_sha256, i.job_id
FROM {_GIVEN}
JOIN s ON s.id = i.source_id AND s.version = i.source_version
ORDER BY i.source_id, i.external_id, i.id
ON CONFLICT (source_id, external_id) DO NOTHING RETURNING id
""")
_EARLIER: Final = text(f"""
SELECT d.source_id, d.external_id, d.id, d.job_id
FROM {_GIVEN}
JOIN {SCHEMA}.webhook_sources s ON s.id = i.source_id AND s.xmin::text = i.source_version
JOIN {SCHEMA}.webhook_deliveries d ON d.source_id = i.source_id AND d.external_id = i.external_id
""")
_ATTACH: Final = text(f"""
UPDATE {SCHEMA}.webhook_deliveries d SET job_id = i.job FROM unnest(CAST(:ids AS uuid[]), CAST(:jobs AS uuid[])) AS i(id, job)
WHERE d.id = i.id
""")


def accept(connection: Connection, deliveries: Sequence[NewDelivery]) -> set[UUID]:
    """Keep deliveries; returns the ids of those that are new, and whose source is as it was when it vouched for them.

    One whose id is being written by another transaction waits for that one.
    """
    return {row[0] for row in connection.execute(_ACCEPT, _given(deliveries))} if deliveries else set()


def earlier(connection: Connection, deliveries: Sequence[NewDelivery]) -> dict[tuple[UUID, str], Kept]:
    """Those that had these ids first, by source and the sender's id; none of a source that has changed."""
    rows = connection.execute(_EARLIER, _given(deliveries))
    return {(row[0], row[1]): Kept(row[2], row[3]) for row in rows}


def attach(connection: Connection, jobs: Mapping[UUID, UUID]) -> None:
    """Say of deliveries that they became other jobs than they were kept with."""
    connection.execute(_ATTACH, {"ids": Uuids(jobs.keys()), "jobs": Uuids(jobs.values())})


def _given(deliveries: Sequence[NewDelivery]) -> dict[str, Any]:
    ids, source_ids, versions, external_ids, events, hashes, job_ids = zip(*deliveries, strict=True)
    return {
        "ids": Uuids(ids),
        "source_ids": Uuids(source_ids),
        "versions": Texts([version.encode() for version in versions]),
        "external_ids": Texts([external_id.encode() for external_id in external_ids]),
        "events": Texts([event.encode() for event in events]),
        "hashes": Texts([digest.encode() for digest in hashes]),
        "job_ids": Uuids(job_ids),
    }
