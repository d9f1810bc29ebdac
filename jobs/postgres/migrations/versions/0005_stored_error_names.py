"""Errors in jobs.errors get fixed names in place of the class paths of version 0.1.

A fixed name stays when a class is renamed or moved. Only exact class paths of our own errors change; the
classes of users' errors keep their paths. An answer kept under an Idempotency-Key stays as it was sent.

Revision: 0005
Follows: 0004
"""

from collections.abc import Mapping
from typing import Final

from alembic import op
from sqlalchemy import text

from callboard.jobs.postgres.sql import SCHEMA

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FIXED: Final = {
    "jobs.services.verdict.TimedOut": "TimedOut",
    "jobs.outcomes.Cancel": "Cancelled",
    "jobs.outcomes.Fail": "Failed",
    "jobs.outcomes.Retry": "Retried",
    "jobs.outcomes.Snooze": "Snoozed",
    "jobs.context.NotInAJob": "NotInAJob",
    "jobs.redis_link.RedisUnavailable": "RedisUnavailable",
    "jobs.errors.CallboardError": "CallboardError",
    "jobs.errors.InvalidInput": "InvalidInput",
    "jobs.errors.InvalidArguments": "InvalidArguments",
    "jobs.errors.UnknownJob": "UnknownJob",
    "jobs.errors.NotFound": "NotFound",
    "jobs.errors.Conflict": "Conflict",
    "jobs.errors.Unauthorized": "Unauthorized",
    "jobs.errors.Forbidden": "Forbidden",
    "jobs.errors.PayloadTooLarge": "PayloadTooLarge",
    "jobs.errors.Unavailable": "Unavailable",
    "jobs.errors.Busy": "Busy",
    "jobs.errors.JobUnsuccessful": "JobUnsuccessful",
    "jobs.errors.WaitTimeout": "WaitTimeout",
}
#: A class that is gone. The way back is not known, so the downgrade leaves it out.
_GONE: Final = {"jobs.errors.StaleJob": "Conflict"}

_RENAME: Final = text(f"""
UPDATE {SCHEMA}.jobs j SET errors = (
  SELECT jsonb_agg(
    CASE WHEN n.new IS NULL THEN e.entry ELSE jsonb_set(e.entry, '{{class}}', to_jsonb(n.new)) END
    ORDER BY e.place)
  FROM jsonb_array_elements(j.errors) WITH ORDINALITY AS e(entry, place)
  LEFT JOIN unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS n(old, new) ON n.old = e.entry ->> 'class')
WHERE j.errors <> '[]' AND EXISTS (
  SELECT FROM jsonb_array_elements(j.errors) AS e(entry)
  WHERE e.entry ->> 'class' = ANY(CAST(:old AS text[])))
""")


def upgrade() -> None:
    _rename(_FIXED | _GONE)


def downgrade() -> None:
    _rename({new: old for old, new in _FIXED.items()})


def _rename(names: Mapping[str, str]) -> None:
    # One pass over the whole table; connections of ours prefer an index even for that.
    op.execute("SET LOCAL enable_seqscan = on")
    op.get_bind().execute(_RENAME, {"old": list(names), "new": list(names.values())})
