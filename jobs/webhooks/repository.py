"""SQL for webhook sources and their deliveries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.model.basics.fields import is_job_name
from callboard.jobs.model.states import ACTIVE
from callboard.jobs.model.unreadable import RowProblem, unreadable_values
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.rows.binary_arrays import Integers, Texts, Uuids
from callboard.jobs.postgres.sql import SCHEMA, columns, in_states, outside_years
from callboard.jobs.webhooks.delivery import Delivery, NewDelivery, StoredDelivery
from callboard.jobs.webhooks.schemes import SCHEMES
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
    return [_source(row) for row in connection.execute(_LIST)]


def named(connection: Connection, names: Sequence[str]) -> list[WebhookSource]:
    """Return the sources that exist among these names."""
    return [_source(row) for row in connection.execute(_NAMED, {"names": list(names)})]


def _source(row: Any) -> WebhookSource:
    """Make a source of its row, which may have been changed by hand.

    A NULL among the events is an event that no request has.
    """
    source = WebhookSource(*row)
    readable: dict[str, Any] = {
        "events": [_NO_EVENT if event is None else str(event) for event in source.events],
        "secrets": [secret for secret in source.secrets if isinstance(secret, str)],
    }
    return replace(source, **readable)


def problems(connection: Connection) -> list[RowProblem]:
    """Return the problems of sources and deliveries that were changed by hand; 100 deliveries at most."""
    sources = [WebhookSource(*row) for row in connection.execute(_LIST)]
    found = [RowProblem(_SOURCES, one.name, *each) for one in sources for each in _problems_of(one).items()]
    late = [Delivery(*row) for row in connection.execute(_ODD_DELIVERIES)]
    return found + [
        RowProblem("webhook_deliveries", str(one.id), *each)
        for one in late
        for each in unreadable_values(one).items()
    ]


def _problems_of(source: WebhookSource) -> dict[str, str]:
    found = unreadable_values(source)
    for column in ("events", "secrets"):
        if not all(isinstance(each, str) for each in getattr(source, column)):
            found[column] = "an array of texts is expected"
    if not is_job_name(source.job):
        found["job"] = "it is not a job's name"
    if not source.secrets:
        found["secrets"] = "a secret is expected"
    if source.scheme not in SCHEMES:
        found["scheme"] = f"one of {', '.join(SCHEMES)} is expected"
    return found


def delete(connection: Connection, name: str) -> bool:
    """Delete a source and its deliveries; returns False when there is none of this name."""
    return connection.execute(_DELETE, {"name": name}).rowcount == 1


_SOURCES: Final = "webhook_sources"
_NO_EVENT: Final = "(NULL)\n"

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
SELECT {columns(StoredDelivery, "d")}
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
    stored = (StoredDelivery(*row) for row in connection.execute(_EARLIER, _given(deliveries)))
    return {(one.source_id, one.external_id): one for one in stored}


# The source's row is locked first, as in _ACCEPT: while a source is being deleted, nothing is counted and
# nothing waits for the deletion. ORDER BY: all transactions lock the same rows in the same order.
_COUNT_MISMATCHES: Final = text(f"""
WITH s AS MATERIALIZED (
  SELECT id FROM {SCHEMA}.webhook_sources WHERE id = ANY(:source_ids) FOR KEY SHARE SKIP LOCKED
), locked AS MATERIALIZED (
  SELECT d.id, i.times
  FROM unnest(CAST(:ids AS uuid[]), CAST(:times AS integer[])) AS i(id, times)
  JOIN {SCHEMA}.webhook_deliveries d ON d.id = i.id JOIN s ON s.id = d.source_id
  ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE {SCHEMA}.webhook_deliveries d
SET mismatch_count = LEAST(d.mismatch_count::bigint + l.times, 2147483647)::integer, mismatched_at = now()
FROM locked l WHERE d.id = l.id
""")


def count_mismatches(connection: Statements, again: Sequence[StoredDelivery]) -> None:
    """Count that the ids of these deliveries were used again with another body, once for each entry."""
    times = Counter(one.id for one in again)
    connection.execute(
        _COUNT_MISMATCHES,
        {
            "source_ids": Uuids({one.source_id for one in again}),
            "ids": Uuids(times.keys()),
            "times": Integers(times.values()),
        },
    )


def attach(connection: Statements, jobs: Mapping[UUID, UUID]) -> None:
    """Set the jobs of deliveries, by delivery id. With a unique key, the job can be an older one."""
    connection.execute(_ATTACH, {"ids": Uuids(jobs.keys()), "jobs": Uuids(jobs.values())})


_KEEP_BODIES: Final = text(f"""
UPDATE {SCHEMA}.webhook_deliveries d SET body = i.body
FROM unnest(CAST(:ids AS uuid[]), CAST(:bodies AS bytea[])) AS i(id, body)
WHERE d.id = i.id
""")
_BODY: Final = text(f"SELECT body FROM {SCHEMA}.webhook_deliveries WHERE id = :id")


def keep_bodies(connection: Statements, bodies: Mapping[UUID, bytes]) -> None:
    """Store the raw bodies of deliveries of this transaction, by delivery id."""
    connection.execute(_KEEP_BODIES, {"ids": Uuids(bodies.keys()), "bodies": list(bodies.values())})


def body(connection: Connection, delivery_id: UUID) -> bytes | None:
    """Return the raw body of a delivery; None when none is kept."""
    found: bytes | None = connection.execute(_BODY, {"id": delivery_id}).scalar_one_or_none()
    return found


_SHOWN: Final = columns(Delivery, "d", source="s.name", kept_bytes="octet_length(d.body)")
_SHOWN_FROM: Final = f"{SCHEMA}.webhook_deliveries d JOIN {SCHEMA}.webhook_sources s ON s.id = d.source_id"
_SHOW: Final = text(f"SELECT {_SHOWN} FROM {_SHOWN_FROM} WHERE d.id = :id")
_SOURCE_ID: Final = text(f"SELECT id FROM {SCHEMA}.webhook_sources WHERE name = :name")


_ODD_DELIVERIES: Final = text(
    f"SELECT {_SHOWN} FROM {_SHOWN_FROM} WHERE {outside_years('d.received_at')} LIMIT 100"
)


def show(connection: Connection, delivery_id: UUID) -> Delivery | None:
    """Return the delivery; None when there is no such delivery."""
    row = connection.execute(_SHOW, {"id": delivery_id}).one_or_none()
    return None if row is None else Delivery(*row)


def source_id(connection: Connection, name: str) -> UUID | None:
    """Return the id of the source of this name; None when there is none."""
    found: UUID | None = connection.execute(_SOURCE_ID, {"name": name}).scalar_one_or_none()
    return found


def page(
    connection: Connection, *, source: UUID | None, mismatched: bool, before: UUID | None, limit: int
) -> list[Delivery]:
    """Return the newest deliveries that match, before the keyset position `before`.

    Ids are in the order of arrival.
    """
    conditions = [("d.source_id = :source", source), ("d.id < :before", before)]
    clauses = [clause for clause, value in conditions if value is not None]
    if mismatched:
        clauses.append("d.mismatch_count > 0")
    where = " AND ".join(clauses) or "true"
    statement = text(f"SELECT {_SHOWN} FROM {_SHOWN_FROM} WHERE {where} ORDER BY d.id DESC LIMIT :limit")
    values = {"source": source, "before": before, "limit": limit}
    return [Delivery(*row) for row in connection.execute(statement, values)]


_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.webhook_deliveries WHERE id IN (
  SELECT id FROM {SCHEMA}.webhook_deliveries d
  WHERE received_at < statement_timestamp() - CAST(:age AS interval)
    AND (d.body IS NULL OR NOT EXISTS (
      SELECT FROM {SCHEMA}.jobs j WHERE j.id = d.job_id AND {in_states(ACTIVE)}))
  ORDER BY received_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, age: timedelta, limit: int) -> int:
    """Delete up to `limit` deliveries that came longer than `age` ago; return how many.

    A delivery whose body an unfinished job may still read is kept.
    """
    return connection.execute(_PRUNE, {"age": age, "limit": limit}).rowcount


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
