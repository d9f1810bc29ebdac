"""Reads of jobs: one, many, pages, what is queued, how much there is."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.attempts.progress import LONGEST_NOTE, Progress
from callboard.jobs.model.endings import CancelRequest
from callboard.jobs.model.json_values import storable
from callboard.jobs.postgres.sql import SCHEMA, by_id
from callboard.jobs.postgres.statements import AnyConnection

_CANCEL_REQUESTED: Final = text(f"""
SELECT id, epoch, cancel_forced FROM {SCHEMA}.jobs
WHERE state = 'running' AND worker_id = :worker AND cancel_requested_at IS NOT NULL
""")


def cancel_requested(connection: Connection, worker: UUID) -> list[CancelRequest]:
    """The jobs this worker runs that somebody wants stopped."""
    return [CancelRequest(*row) for row in connection.execute(_CANCEL_REQUESTED, {"worker": worker})]


# By primary key, as in jobs.py.
_WRITE: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT found.id, p.fraction, p.note
  FROM jsonb_to_recordset(CAST(:reports AS jsonb)) AS p(id uuid, epoch int, claim uuid, fraction real, note text), LATERAL (
    SELECT j.id FROM {SCHEMA}.jobs j WHERE j.id = p.id AND j.epoch = p.epoch AND j.claim_id = p.claim AND (j.state || '') = 'running' FOR UPDATE OF j
  ) AS found
)
UPDATE {SCHEMA}.jobs j SET progress = t.fraction, progress_note = t.note FROM target t WHERE {by_id("t.id")}
""")


def write(connection: AnyConnection, reports: Sequence[Progress]) -> int:
    """Write the progress of running jobs, fenced by epoch; returns how many still ran."""
    encoded = [
        {
            "id": report.id,
            "epoch": report.epoch,
            "claim": report.claim_id,
            "fraction": report.fraction,
            "note": None if report.note is None else storable(report.note, LONGEST_NOTE),
        }
        for report in sorted(reports, key=lambda report: report.id)
    ]
    return connection.execute(_WRITE, {"reports": orjson.dumps(encoded).decode()}).rowcount
