"""The verbs that end an attempt: complete, retry, snooze, fail, stop, and hand_back.

Each is one guarded statement.

Every function returns the rows that it changed. A missing row had another state or another epoch; the caller
decides what to do. Rows are locked in id order.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import Row, text

from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.rows.binary_arrays import Integers, Texts, Uuids
from callboard.jobs.postgres.sql import ACCEPTS, HINT, LIVE_VERSIONS, NEXT_EPOCH, SCHEMA, by_id

H = TypeVar("H", Finish, ClaimedJob)

_IS_RUNNING: Final = "(j.state || '') = 'running'"
#: The fence: a write must match the epoch and the claim of the attempt. The epoch alone is not enough: if a
#: crash of Postgres undoes a claim, the next claim gets the same epoch.
_FENCES: Final = "unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[]), CAST(:claims AS uuid[])"
_HELD: Final = f"j.epoch = f.epoch AND j.claim_id = f.claim AND {_IS_RUNNING}"

#: The usual end of an attempt. The input is the outer side of a nested loop, as in _FINISH.
COMPLETE: Final = f"""
UPDATE {SCHEMA}.jobs j SET state = 'succeeded', result = CAST(f.result AS jsonb), put_off = 0,
  put_off_reason = NULL,
  suspected = 0, solo = false, finished_at = clock_timestamp()
FROM {_FENCES}, CAST(:results AS text[])) AS f(id, epoch, claim, result)
WHERE {by_id("f.id")} AND {_HELD}
RETURNING j.id"""
_COMPLETE: Final = text(COMPLETE)


def completing(ends: Sequence[Finish]) -> dict[str, Any]:
    """Return the parameters of COMPLETE. The input is in id order."""
    return {**_fences(ends), "results": Texts(end.result for end in ends)}


def _complete(connection: Statements, ends: Sequence[Finish]) -> list[Finished]:
    if not ends:
        return []
    done = connection.execute(_COMPLETE, completing(ends))
    if done.rowcount == len(ends):
        # The usual case: no end is stale, so the rows need not be read.
        return [Finished(end.id, JobState.SUCCEEDED) for end in ends]
    return [Finished(row[0], JobState.SUCCEEDED) for row in done.all()]


# The input is sorted and is the outer side of a nested loop (our connections allow no other join). So the
# rows are locked in id order, and each is looked up once. Values that few ends have are in `more`, by id.
_ENDS_CANCELLED: Final = "(f.state IN ('retrying', 'scheduled') AND j.cancel_requested_at IS NOT NULL)"
#: The state is compared first: the other ends then need no look-up in `more`.
_PUTS_OFF: Final = "f.state = 'scheduled' AND f.more -> 'put_off' IS NOT NULL"
_FINISH: Final = text(f"""
UPDATE {SCHEMA}.jobs j SET state = CASE WHEN {_ENDS_CANCELLED} THEN 'cancelled' ELSE f.state END,
  result = f.more -> 'result',
  errors = CASE WHEN f.more -> 'error' IS NULL THEN j.errors ELSE j.errors || (f.more -> 'error') END,
  attempt = greatest(j.attempt - CASE WHEN f.state = 'scheduled' THEN 1 ELSE 0 END, 0),
  put_off = CASE WHEN {_PUTS_OFF} THEN least(j.put_off, 32766) + 1 ELSE 0 END,
  put_off_reason = CASE WHEN {_PUTS_OFF} THEN f.more ->> 'put_off' END,
  suspected = CASE WHEN {_PUTS_OFF} THEN j.suspected ELSE 0 END, solo = {_PUTS_OFF} AND j.solo,
  run_at = CASE WHEN f.more -> 'delay' IS NULL THEN j.run_at
    ELSE clock_timestamp() + CAST(f.more ->> 'delay' AS double precision) * interval '1 second' END,
  options = CASE WHEN f.more -> 'options' IS NULL THEN j.options
    ELSE jsonb_set(coalesce(j.options, '{{}}'), '{{message}}', f.more -> 'options') END,
  finished_at = CASE WHEN {_ENDS_CANCELLED} OR f.state IN ('succeeded', 'failed', 'cancelled')
    THEN clock_timestamp() END
FROM (
  SELECT t.*, CAST(:more AS jsonb) -> CAST(t.id AS text) AS more
  FROM {_FENCES}, CAST(:states AS text[])) AS t(id, epoch, claim, state)
) f
WHERE {by_id("f.id")} AND {_HELD}
RETURNING j.id, j.state
""")

_FINISH_STATE: Final = {
    Verb.COMPLETE: JobState.SUCCEEDED,
    Verb.RETRY: JobState.RETRYING,
    Verb.SNOOZE: JobState.SCHEDULED,
    Verb.FAIL: JobState.FAILED,
    Verb.STOP: JobState.CANCELLED,
}


def finish(connection: Statements, finishes: Sequence[Finish]) -> list[Finished]:
    """complete | retry | snooze | fail | stop: running -> the state that the verb leads to; fenced.

    A job with a cancel request that would run again is cancelled instead. When an attempt ends, its job is no
    longer suspected of killing its process and need not run alone.
    """
    ordered = in_order(finishes)
    plain = [end for end in ordered if end.verb is Verb.COMPLETE]
    done = _complete(connection, plain)
    if len(plain) < len(ordered):
        done += _end(connection, [end for end in ordered if end.verb is not Verb.COMPLETE])
    return done


def _end(connection: Statements, ends: Sequence[Finish]) -> list[Finished]:
    more = {
        str(end.id): _more(end)
        for end in ends
        if any(one is not None for one in (end.result, end.error, end.delay, end.message_options))
    }
    states = ",".join([_FINISH_STATE[end.verb] for end in ends])
    parameters = {**_fences(ends), "states": f"{{{states}}}", "more": orjson.dumps(more).decode()}
    return [Finished(row[0], JobState(row[1])) for row in connection.execute(_FINISH, parameters).all()]


def _more(end: Finish) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if end.result is not None:
        more["result"] = orjson.Fragment(end.result)
    if end.error is not None:
        more["error"] = end.error.entry()
    if end.delay is not None:
        more["delay"] = end.delay.total_seconds()
    if end.put_off is not None:
        more["put_off"] = end.put_off
    if end.message_options is not None:
        more["options"] = orjson.Fragment(end.message_options)
    return more


_ALREADY: Final = text(f"""
SELECT found.id, found.state FROM {_FENCES}) AS f(id, epoch, claim), LATERAL (
  SELECT j.id, j.state FROM {SCHEMA}.jobs j
  WHERE j.id = f.id AND j.epoch = f.epoch AND j.claim_id = f.claim AND j.state <> 'running' OFFSET 0
) AS found
""")


def already_finished(connection: Statements, finishes: Sequence[Finish]) -> list[Finished]:
    """Return the ends that an earlier call wrote, but whose answer was lost: same claim, no longer running.

    No other verb can have ended them: every other verb that leaves `running` increments the epoch.
    """
    rows = connection.execute(_ALREADY, _fences(in_order(finishes)))
    return [Finished(row[0], JobState(row[1])) for row in rows]


def in_order(held: Iterable[H]) -> list[H]:
    """Return these in the order of their ids: that of Postgres. Integers compare faster than UUIDs."""
    return sorted(held, key=lambda one: one.id.int)


def _fences(held: Sequence[Finish | ClaimedJob]) -> dict[str, Any]:
    """Return the parameters of the fence. The input is in id order."""
    return {
        "ids": Uuids([one.id for one in held]),
        "epochs": Integers([one.epoch for one in held]),
        "claims": Uuids([one.claim_id for one in held]),
    }


_HAND_BACK: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT found.id, found.cancelled FROM {_FENCES}) AS f(id, epoch, claim), LATERAL (
    SELECT j.id, j.cancel_requested_at IS NOT NULL AS cancelled FROM {SCHEMA}.jobs j
    WHERE j.id = f.id AND {_HELD} FOR UPDATE OF j
  ) AS found
)
UPDATE {SCHEMA}.jobs j SET state = CASE WHEN t.cancelled THEN 'cancelled' ELSE 'queued' END,
  attempt = greatest(j.attempt - 1, 0),
  epoch = {NEXT_EPOCH}, started_at = NULL, finished_at = CASE WHEN t.cancelled THEN clock_timestamp() END
FROM target t WHERE {by_id("t.id")} RETURNING {HINT}, j.state
""")


def hand_back(connection: Statements, held: Sequence[ClaimedJob]) -> tuple[list[Finished], list[Hint]]:
    """hand_back: running -> queued, or cancelled if requested, for claimed jobs that have not started.

    The attempt does not count; epoch+1.
    """
    return moved(connection.execute(_HAND_BACK, _fences(in_order(held))).all())


def moved(rows: Sequence[Row[Any]]) -> tuple[list[Finished], list[Hint]]:
    """Return the new states of jobs that were handed back, and hints for the queued ones."""
    queued = [row for row in rows if row.state == JobState.QUEUED]
    hints = [Hint(row.id, row.epoch, row.queue, row.priority, row.run_at, row.limited) for row in queued]
    return [Finished(row.id, JobState(row.state)) for row in rows], hints


# The check of SQL compares names and simple types only, which is enough to choose a delay.
_HASTEN: Final = text(f"""
WITH live AS MATERIALIZED (
  {LIVE_VERSIONS} AND v.name = ANY(ARRAY(SELECT p.name FROM {SCHEMA}.jobs p WHERE p.id = ANY(:ids)))
)
UPDATE {SCHEMA}.jobs j SET run_at = least(j.run_at, statement_timestamp()
  + least(interval '1 second' * (1 + j.put_off), interval '30 seconds') * (0.5 + random() / 2))
WHERE j.id = ANY(:ids) AND j.state = 'scheduled' AND j.put_off > 0 AND EXISTS (
  SELECT FROM live v WHERE v.name = j.name AND {ACCEPTS})
""")


def hasten(connection: Statements, ids: Sequence[UUID]) -> None:
    """Shorten the delay of jobs that were put off, if a live version accepts them: to 1 to 30 seconds."""
    connection.execute(_HASTEN, {"ids": list(ids)})
