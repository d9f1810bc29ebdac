"""How far running jobs have come, written in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
from sqlalchemy import text

from jobs.direct import AnyConnection
from jobs.json_values import storable
from jobs.models import by_id

#: Characters of a note.
LONGEST_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """A running job's own word on itself: the part done (0..1) and a note."""

    id: UUID
    epoch: int
    claim_id: UUID
    fraction: float
    note: str | None


# By primary key, as in jobs.py.
_WRITE: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT found.id, p.fraction, p.note
  FROM jsonb_to_recordset(CAST(:reports AS jsonb)) AS p(id uuid, epoch int, claim uuid, fraction real, note text), LATERAL (
    SELECT j.id FROM callboard.jobs j WHERE j.id = p.id AND j.epoch = p.epoch AND j.claim_id = p.claim AND (j.state || '') = 'running' FOR UPDATE OF j
  ) AS found
)
UPDATE callboard.jobs j SET progress = t.fraction, progress_note = t.note FROM target t WHERE {by_id("t.id")}
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
