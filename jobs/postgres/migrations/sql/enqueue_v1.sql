-- A UUIDv7 (RFC 9562) on every Postgres that is served: 48 bits of milliseconds, then random bits.
CREATE FUNCTION callboard.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT encode(
    set_bit(set_bit(
      overlay(uuid_send(gen_random_uuid())
              PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
              FROM 1 FOR 6),
      52, 1), 53, 1), 'hex')::uuid
$$;

-- Why `value` does not fit a property's JSON Schema; null when it does. Knows `type`; the worker checks the rest.
CREATE FUNCTION callboard.misfit(property jsonb, value jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN jsonb_typeof(property -> 'type') IS DISTINCT FROM 'string' THEN NULL
    WHEN property ->> 'type' = 'integer' THEN
      CASE WHEN jsonb_typeof(value) = 'number' AND value::text::numeric = trunc(value::text::numeric) THEN NULL
           ELSE 'integer' END
    WHEN property ->> 'type' = jsonb_typeof(value) THEN NULL
    ELSE property ->> 'type'
  END
$$;

-- Enqueue a job inside the caller's own transaction: it is there when, and only when, that commits.
-- Returns the job's id, or with a unique_key that an active job holds, that job's.
CREATE FUNCTION callboard.enqueue(
  name text,
  kwargs jsonb DEFAULT '{}'::jsonb,
  queue text DEFAULT NULL,
  run_at timestamptz DEFAULT NULL,
  delay interval DEFAULT NULL,
  priority int DEFAULT NULL,
  unique_key text DEFAULT NULL,
  tags text[] DEFAULT '{}'::text[],
  max_attempts int DEFAULT NULL,
  unchecked boolean DEFAULT false
) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  kind callboard.job_types%ROWTYPE;
  field text;
  wrong text;
  due timestamptz := coalesce(enqueue.run_at, clock_timestamp() + coalesce(enqueue.delay, interval '0'));
  target text;
  job uuid;
BEGIN
  IF enqueue.name IS NULL OR jsonb_typeof(enqueue.kwargs) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'callboard: kwargs must be a JSON object, and name not null'
      USING ERRCODE = 'invalid_parameter_value', HINT = 'write kwargs as ''{"account_id": 7}''::jsonb';
  END IF;
  IF enqueue.run_at IS NOT NULL AND enqueue.delay IS NOT NULL THEN
    RAISE EXCEPTION 'callboard: run_at and delay exclude each other' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF jsonb_path_exists(enqueue.kwargs, 'strict $.** ? (@.type() == "number" && (@ > 1.7e308 || @ < -1.7e308))')
    OR octet_length(enqueue.kwargs::text) > 2097152 THEN
    RAISE EXCEPTION 'callboard: kwargs hold a number beyond the range of a double, or are longer than 2 MiB'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF jsonb_path_exists(enqueue.kwargs, 'strict $.**{101 to last}') THEN
    RAISE EXCEPTION 'callboard: kwargs are nested deeper than 100 levels' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF unchecked AND length(enqueue.name) BETWEEN 1 AND 200 AND enqueue.name !~ '^[A-Za-z_][A-Za-z0-9._:-]*$' THEN
    RAISE EXCEPTION 'callboard: % is not a job name (letters, digits, ".", "_", ":" and "-")', quote_literal(enqueue.name)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF cardinality(enqueue.tags) > 20 OR EXISTS (
    SELECT FROM unnest(enqueue.tags) AS tag WHERE tag IS NULL OR length(tag) NOT BETWEEN 1 AND 100) THEN
    RAISE EXCEPTION 'callboard: tags are up to 20 texts of 1 to 100 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF due NOT BETWEEN timestamptz '1970-01-01 00:00+00' AND timestamptz '3000-01-01 00:00+00' THEN
    RAISE EXCEPTION 'callboard: the job would run outside of the years 1970 to 3000' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT t.* INTO kind FROM callboard.job_types t WHERE t.name = enqueue.name;
  IF NOT unchecked THEN
    IF kind.name IS NULL THEN
      RAISE EXCEPTION 'callboard: no job is called %', quote_literal(enqueue.name)
        USING ERRCODE = 'undefined_object', HINT = 'is a worker that defines it running? (unchecked => true enqueues it for one to come)';
    END IF;
    FOR field IN SELECT jsonb_array_elements_text(coalesce(kind.schema -> 'required', '[]'::jsonb)) LOOP
      IF NOT enqueue.kwargs ? field THEN
        RAISE EXCEPTION 'callboard: kwargs.% is missing for the job %', field, enqueue.name USING ERRCODE = 'invalid_parameter_value';
      END IF;
    END LOOP;
    FOR field IN SELECT jsonb_object_keys(enqueue.kwargs) LOOP
      IF NOT coalesce(kind.schema -> 'properties', '{}'::jsonb) ? field THEN
        IF kind.schema -> 'additionalProperties' = 'false'::jsonb THEN
          RAISE EXCEPTION 'callboard: the job % takes no argument %', enqueue.name, field USING ERRCODE = 'invalid_parameter_value';
        END IF;
        CONTINUE;
      END IF;
      wrong := callboard.misfit(kind.schema -> 'properties' -> field, enqueue.kwargs -> field);
      IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'callboard: kwargs.% of the job % must be of type %', field, enqueue.name, wrong
          USING ERRCODE = 'invalid_parameter_value';
      END IF;
    END LOOP;
  END IF;
  target := coalesce(enqueue.queue, kind.queue, 'default');
  IF length(target) BETWEEN 1 AND 100 AND target !~ '^[A-Za-z_][A-Za-z0-9._-]*$' THEN
    RAISE EXCEPTION 'callboard: % is not a queue name (letters, digits, ".", "_" and "-")', quote_literal(target)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO callboard.queues (name) SELECT target
    WHERE NOT EXISTS (SELECT FROM callboard.queues q WHERE q.name = target) ON CONFLICT DO NOTHING;
  LOOP
    INSERT INTO callboard.jobs (id, name, queue, state, kwargs, priority, max_attempts, run_at, enqueued_at, unique_key, tags,
      timeout, source, source_id)
    VALUES (callboard.uuid7(), enqueue.name, target, CASE WHEN due > clock_timestamp() THEN 'scheduled' ELSE 'queued' END,
      enqueue.kwargs, coalesce(enqueue.priority, (kind.defaults ->> 'priority')::int, 5),
      coalesce(enqueue.max_attempts, (kind.defaults ->> 'max_attempts')::int, 10), due, clock_timestamp(), enqueue.unique_key,
      enqueue.tags, (kind.defaults ->> 'timeout')::float * interval '1 second', 'sql', session_user)
    ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL
      AND state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying') DO NOTHING
    RETURNING id INTO job;
    EXIT WHEN job IS NOT NULL;
    SELECT j.id INTO job FROM callboard.jobs j WHERE j.unique_key = enqueue.unique_key
      AND j.state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying');
    IF job IS NOT NULL THEN
      RETURN job;
    END IF;
  END LOOP;
  PERFORM pg_notify('callboard_queued', target);
  RETURN job;
END
$$;
