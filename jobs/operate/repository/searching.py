"""The condition of a search: a text in a job's row or in its log lines."""

from typing import Final

from callboard.jobs.postgres.sql import SCHEMA

# A log line is looked for last: the other texts are in the job's row. OFFSET 0 keeps it a look-up by job.
FOUND: Final = f"""
(j.kwargs::text ILIKE :search OR j.args::text ILIKE :search OR j.errors::text ILIKE :search
  OR j.result::text ILIKE :search OR j.progress_note ILIKE :search OR j.unique_key ILIKE :search
  OR j.limit_key ILIKE :search OR array_to_string(j.tags, ' ') ILIKE :search
  OR EXISTS (SELECT FROM {SCHEMA}.job_logs l WHERE l.job_id = j.id AND l.message ILIKE :search OFFSET 0))"""
