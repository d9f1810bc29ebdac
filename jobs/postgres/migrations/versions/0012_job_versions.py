"""A job type has versions, and workers tell which versions they run.

`job_types` keeps the newest version of each name: processes of earlier releases read and write it.

Revision: 0012
Follows: 0011
"""

from typing import Final

from alembic import op

from callboard.jobs.errors import Conflict
from callboard.jobs.postgres.sql import SCHEMA

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLE: Final = f"""
CREATE TABLE {SCHEMA}.job_versions (
  name text NOT NULL, digest text NOT NULL, queue text NOT NULL, schema jsonb NOT NULL,
  defaults jsonb NOT NULL, doc text NOT NULL DEFAULT '', module text,
  published_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz NOT NULL DEFAULT now(),
  counts_until timestamptz,
  CONSTRAINT job_versions_pkey PRIMARY KEY (name, digest),
  CONSTRAINT job_versions_name_fkey FOREIGN KEY (name) REFERENCES {SCHEMA}.job_types (name) ON DELETE CASCADE
)
"""
# The text of jsonb is canonical: the order of keys and white space do not matter.
_DIGEST: Final = f"""
CREATE FUNCTION {SCHEMA}.version_digest(queue text, schema jsonb, defaults jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT left(encode(sha256(convert_to(
    queue || ' ' || schema::text || ' ' || defaults::text, 'UTF8')), 'hex'), 16)
$$
"""
# What a process of an earlier release publishes is a version, too. Its role has no right on the new table.
_KEEP: Final = f"""
CREATE FUNCTION {SCHEMA}.keep_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_seen boolean := TG_OP = 'INSERT' OR NEW.seen_at IS DISTINCT FROM OLD.seen_at;
BEGIN
  INSERT INTO {SCHEMA}.job_versions AS v (name, digest, queue, schema, defaults, doc, published_at, seen_at)
  VALUES (NEW.name, {SCHEMA}.version_digest(NEW.queue, NEW.schema, NEW.defaults), NEW.queue, NEW.schema,
    NEW.defaults, NEW.doc, CASE TG_OP WHEN 'INSERT' THEN NEW.published_at ELSE clock_timestamp() END,
    NEW.seen_at)
  ON CONFLICT (name, digest) DO UPDATE SET seen_at = NEW.seen_at WHERE is_seen;
  RETURN NULL;
END
$$
"""
_TRIGGER: Final = f"""
CREATE TRIGGER job_types_versions AFTER INSERT OR UPDATE OF queue, schema, defaults, seen_at
ON {SCHEMA}.job_types FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.keep_version()
"""
_COPY: Final = f"""
INSERT INTO {SCHEMA}.job_versions (name, digest, queue, schema, defaults, doc, published_at, seen_at)
SELECT name, {SCHEMA}.version_digest(queue, schema, defaults), queue, schema, defaults, doc, published_at,
  seen_at FROM {SCHEMA}.job_types
"""
# A worker of an earlier release does not tell its versions: it runs what its release has published, which has
# no module. A minute after the last worker, a version is still live: the worker may be starting again.
# Sessions of ours join by nested loops only, so the workers of a version are looked up in an object, and the
# workers with the same jobs are counted once.
_STATUS: Final = f"""
CREATE VIEW {SCHEMA}.job_version_status AS
WITH alike AS (
  SELECT coalesce(w.job_versions, ARRAY(SELECT n || '@' FROM unnest(w.job_names) AS n)) AS versions,
    count(*) AS near, count(*) FILTER (WHERE w.lease_expires_at > statement_timestamp()) AS workers
  FROM {SCHEMA}.workers w WHERE w.lease_expires_at > statement_timestamp() - interval '1 minute' GROUP BY 1
), runs AS (
  SELECT u.version, sum(a.near) AS near, sum(a.workers) AS workers
  FROM alike a CROSS JOIN LATERAL unnest(a.versions) AS u(version) GROUP BY u.version
), lookup AS MATERIALIZED (
  SELECT coalesce(jsonb_object_agg(r.version, jsonb_build_array(r.near, r.workers)), '{{}}') AS runs
  FROM runs r
), counted AS (
  SELECT v.*, l.runs -> (v.name || '@' || v.digest) AS told,
    CASE WHEN v.module IS NULL THEN l.runs -> (v.name || '@') END AS untold
  FROM {SCHEMA}.job_versions v CROSS JOIN lookup l
), every AS (
  SELECT c.name, c.digest, c.queue, c.schema, c.defaults, c.doc, c.module, c.published_at, c.seen_at,
    c.counts_until,
    coalesce((c.told ->> 1)::bigint, 0) + coalesce((c.untold ->> 1)::bigint, 0) AS workers,
    c.told IS NOT NULL OR c.untold IS NOT NULL OR coalesce(c.counts_until > statement_timestamp(), false)
      AS is_live
  FROM counted c
)
SELECT e.*, CASE WHEN bool_or(e.is_live) OVER names THEN e.is_live
  ELSE e.published_at = max(e.published_at) OVER names OR e.seen_at = max(e.seen_at) OVER names
  END AS is_current
FROM every e WINDOW names AS (PARTITION BY e.name)
"""
# Programs that enqueue by SQL need no rights on the tables of versions and workers.
_CURRENT: Final = f"""
CREATE FUNCTION {SCHEMA}.current_versions(job text) RETURNS SETOF {SCHEMA}.job_version_status
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT v.* FROM {SCHEMA}.job_version_status v WHERE v.name = job AND v.is_current
  ORDER BY v.published_at DESC, v.seen_at DESC, v.digest
$$
"""
_REFUSAL: Final = f"""
CREATE FUNCTION {SCHEMA}.refusal(job text, schema jsonb, kwargs jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  field text;
  wrong text;
BEGIN
  FOR field IN SELECT jsonb_array_elements_text(coalesce(schema -> 'required', '[]'::jsonb)) LOOP
    IF NOT kwargs ? field THEN
      RETURN format('kwargs.%s is missing for the job %s', field, job);
    END IF;
  END LOOP;
  FOR field IN SELECT jsonb_object_keys(kwargs) LOOP
    IF NOT coalesce(schema -> 'properties', '{{}}'::jsonb) ? field THEN
      IF schema -> 'additionalProperties' = 'false'::jsonb THEN
        RETURN format('the job %s takes no argument %s', job, field);
      END IF;
      CONTINUE;
    END IF;
    wrong := {SCHEMA}.misfit(schema -> 'properties' -> field, kwargs -> field);
    IF wrong IS NOT NULL THEN
      RETURN format('kwargs.%s of the job %s must be of type %s', field, job, wrong);
    END IF;
  END LOOP;
  RETURN NULL;
END
$$
"""
#: The part of the function `enqueue` that reads the job type and checks the arguments, before and after.
_UNKNOWN: Final = """\
      RAISE EXCEPTION 'callboard: no job is called %', quote_literal(enqueue.name)
        USING ERRCODE = 'undefined_object', HINT = 'is a worker that defines it running?\
 (unchecked => true enqueues it for one to come)';
"""
_ONE: Final = f"""\
  SELECT t.* INTO kind FROM {SCHEMA}.job_types t WHERE t.name = enqueue.name;
  IF NOT coalesce(unchecked, false) THEN
    IF kind.name IS NULL THEN
{_UNKNOWN}    END IF;
    FOR field IN SELECT jsonb_array_elements_text(coalesce(kind.schema -> 'required', '[]'::jsonb)) LOOP
      IF NOT enqueue.kwargs ? field THEN
        RAISE EXCEPTION 'callboard: kwargs.% is missing for the job %', field, enqueue.name\
 USING ERRCODE = 'invalid_parameter_value';
      END IF;
    END LOOP;
    FOR field IN SELECT jsonb_object_keys(enqueue.kwargs) LOOP
      IF NOT coalesce(kind.schema -> 'properties', '{{}}'::jsonb) ? field THEN
        IF kind.schema -> 'additionalProperties' = 'false'::jsonb THEN
          RAISE EXCEPTION 'callboard: the job % takes no argument %', enqueue.name, field\
 USING ERRCODE = 'invalid_parameter_value';
        END IF;
        CONTINUE;
      END IF;
      wrong := {SCHEMA}.misfit(kind.schema -> 'properties' -> field, enqueue.kwargs -> field);
      IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'callboard: kwargs.% of the job % must be of type %', field, enqueue.name, wrong
          USING ERRCODE = 'invalid_parameter_value';
      END IF;
    END LOOP;
  END IF;
"""
_EVERY: Final = f"""\
  FOR version IN SELECT v.queue, v.schema, v.defaults FROM {SCHEMA}.current_versions(enqueue.name) v LOOP
    wrong := {SCHEMA}.refusal(enqueue.name, version.schema, enqueue.kwargs);
    -- of several versions that refuse, the newest gives the reason and the defaults
    IF kind.name IS NULL OR wrong IS NULL THEN
      kind.name := enqueue.name;
      kind.queue := version.queue;
      kind.schema := version.schema;
      kind.defaults := version.defaults;
    END IF;
    refused := coalesce(refused, wrong);
    versions := versions + 1;
    EXIT WHEN wrong IS NULL;
  END LOOP;
  IF NOT coalesce(unchecked, false) THEN
    IF kind.name IS NULL THEN
{_UNKNOWN}    END IF;
    IF wrong IS NOT NULL THEN
      RAISE EXCEPTION 'callboard: %', refused USING ERRCODE = 'invalid_parameter_value',
        HINT = CASE WHEN versions > 1 THEN
          format('this is about the newest; none of the %s versions in use takes the arguments', versions)
          ELSE '' END;
    END IF;
  END IF;
"""
_VARIABLES: Final = ("  field text;\n", "  field text;\n  version record;\n  versions int := 0;\n")
_FUNCTION: Final = f"""
SELECT pg_get_functiondef(p.oid) FROM pg_proc p
WHERE p.proname = 'enqueue' AND p.pronamespace = '{SCHEMA}'::regnamespace
"""
_DROP: Final = (
    f"DROP FUNCTION {SCHEMA}.refusal(text, jsonb, jsonb)",
    f"DROP FUNCTION {SCHEMA}.current_versions(text)",
    f"DROP VIEW {SCHEMA}.job_version_status",
    f"DROP TRIGGER job_types_versions ON {SCHEMA}.job_types",
    f"DROP FUNCTION {SCHEMA}.keep_version()",
    f"DROP TABLE {SCHEMA}.job_versions",
    f"DROP FUNCTION {SCHEMA}.version_digest(text, jsonb, jsonb)",
    f"ALTER TABLE {SCHEMA}.workers DROP COLUMN job_versions",
)


def upgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.workers ADD COLUMN job_versions text[]")
    _execute(_TABLE, _DIGEST, _KEEP, _TRIGGER, _COPY, _STATUS, _CURRENT, _REFUSAL)
    _change((_ONE, _EVERY), _VARIABLES)


def downgrade() -> None:
    # `job_types` has the newest version of each name already.
    _change((_EVERY, _ONE), _VARIABLES[::-1])
    _execute(*_DROP)


def _execute(*statements: str) -> None:
    for statement in statements:
        # psycopg reads % as the start of a placeholder.
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def _change(*parts: tuple[str, str]) -> None:
    """Replace parts of the text of `enqueue`. Raises Conflict unless one function has each of them once."""
    connection = op.get_bind()
    schema = connection.exec_driver_sql(f"SELECT '{SCHEMA}'").scalar_one()
    named = [(before.replace(SCHEMA, schema), after) for before, after in parts]
    # Somebody may have added functions of the same name.
    found = [
        one
        for one in connection.exec_driver_sql(_FUNCTION).scalars()
        if all(one.count(before) == 1 for before, _ in named)
    ]
    if len(found) != 1:
        raise Conflict("the SQL function enqueue was changed by hand; restore the one of its version first")
    changed = found[0]
    for before, after in named:
        changed = changed.replace(before, after)
    _execute(changed)
