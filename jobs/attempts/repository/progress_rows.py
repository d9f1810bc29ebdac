"""Writes of progress, and reads of cancel requests."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.attempts.progress import LONGEST_NOTE, Progress
from callboard.jobs.model.basics.json_values import storable
from callboard.jobs.model.endings import CancelRequest
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA, by_id, columns

_CANCEL_REQUESTED: Final = text(f"""
SELECT {columns(CancelRequest, "j", forced="j.cancel_forced")} FROM {SCHEMA}.jobs j
WHERE j.state = 'running' AND j.worker_id = :worker AND j.cancel_requested_at IS NOT NULL
""")


def cancel_requested(connection: Connection, worker: UUID) -> list[CancelRequest]:
    """Return the requests to stop jobs that this worker runs."""
    return [CancelRequest(*row) for row in connection.execute(_CANCEL_REQUESTED, {"worker": worker})]


# The LATERAL looks each row up by primary key, see claiming.py.
_WRITE: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT found.id, p.fraction, p.note
  FROM jsonb_to_recordset(CAST(:reports AS jsonb))
    AS p(id uuid, epoch int, claim uuid, fraction real, note text),
  LATERAL (
    SELECT j.id FROM {SCHEMA}.jobs j
    WHERE j.id = p.id AND j.epoch = p.epoch AND j.claim_id = p.claim
      AND (j.state || '') = 'running' FOR UPDATE OF j
  ) AS found
)
UPDATE {SCHEMA}.jobs j SET progress = t.fraction, progress_note = t.note FROM target t WHERE {by_id("t.id")}
""")


def write(connection: Statements, reports: Sequence[Progress]) -> int:
    """Write the progress of running jobs, fenced by epoch and claim; return how many rows changed."""
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
