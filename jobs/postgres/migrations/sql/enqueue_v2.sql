-- The values of these arguments as one text, `account_id=7,month="2026-10"`, exactly as jobs/derived_keys.py writes it: of all
-- arguments when `names` is empty, with the defaults of the job's schema.
CREATE FUNCTION callboard.derived_key(schema jsonb, kwargs jsonb, names jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  given jsonb;
  chosen text[];
  argument text;
  value jsonb;
  parts text[] := '{}';
  whole text;
BEGIN
  SELECT coalesce(jsonb_object_agg(p.key, p.value -> 'default'), '{}'::jsonb) || kwargs INTO given
    FROM jsonb_each(coalesce(schema -> 'properties', '{}'::jsonb)) p
    WHERE jsonb_typeof(p.value) = 'object' AND p.value ? 'default';
  IF jsonb_array_length(names) > 0 THEN
    chosen := ARRAY(SELECT n.name FROM jsonb_array_elements_text(names) WITH ORDINALITY AS n(name, place) ORDER BY n.place);
  ELSE
    chosen := ARRAY(SELECT n.name FROM jsonb_object_keys(given) AS n(name) ORDER BY n.name COLLATE "C");
  END IF;
  FOREACH argument IN ARRAY chosen LOOP
    value := coalesce(given -> argument, 'null'::jsonb);
    IF jsonb_typeof(value) IN ('string', 'boolean', 'null') THEN
      parts := parts || (argument || '=' || value::text);
    ELSIF jsonb_typeof(value) = 'number' AND abs(value::text::numeric) < 18446744073709551616
      AND value::text::numeric = trunc(value::text::numeric) THEN
      parts := parts || (argument || '=' || trunc(value::text::numeric)::text);
    ELSE
      RAISE EXCEPTION 'callboard: kwargs.% is a fraction, a list or an object, of which SQL makes no key', argument
        USING ERRCODE = 'invalid_parameter_value', HINT = 'give the unique_key or the limit_key, or name other arguments in the job''s definition';
    END IF;
  END LOOP;
  whole := array_to_string(parts, ',');
  RETURN CASE WHEN length(whole) <= 150 THEN whole ELSE callboard.digest(whole) END;
END
$$;

-- Stands for a text that is too long for a key.
CREATE FUNCTION callboard.digest(whole text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT 'sha256:' || left(encode(sha256(convert_to(whole, 'UTF8')), 'hex'), 40)
$$;

-- Enqueue a job inside the caller's own transaction: it is there when, and only when, that commits.
-- Returns the job's id, or with a unique_key that is held, the id of the job that holds it.
--   unique_for:  the key is held so long, whatever becomes of the job.
--   on_conflict: existing | replace (the holder gets these arguments and this time, if it has not begun) | reject.
-- What is not given is as the job's definition says.
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
  unchecked boolean DEFAULT false,
  unique_for interval DEFAULT NULL,
  on_conflict text DEFAULT NULL,
  limit_key text DEFAULT NULL,
  timeout interval DEFAULT NULL,
  hard_timeout interval DEFAULT NULL,
  expires_at timestamptz DEFAULT NULL,
  min_backoff interval DEFAULT NULL,
  max_backoff interval DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  kind callboard.job_types%ROWTYPE;
  field text;
  wrong text;
  due timestamptz := coalesce(enqueue.run_at, clock_timestamp() + coalesce(enqueue.delay, interval '0'));
  target text;
  job uuid;
  refused text;
  rule jsonb;
  the_key text := enqueue.unique_key;
  the_limit text := enqueue.limit_key;
  period interval := enqueue.unique_for;
  conflict text := enqueue.on_conflict;
  made callboard.jobs%ROWTYPE;
  holder callboard.jobs%ROWTYPE;
  kept_until timestamptz;
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
  IF coalesce(unchecked, false) AND length(enqueue.name) BETWEEN 1 AND 200 AND enqueue.name !~ '^[A-Za-z_][A-Za-z0-9._:-]*$' THEN
    RAISE EXCEPTION 'callboard: % is not a job name (letters, digits, ".", "_", ":" and "-")', quote_literal(enqueue.name)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF cardinality(enqueue.tags) > 20 OR EXISTS (
    SELECT FROM unnest(enqueue.tags) AS tag WHERE tag IS NULL OR length(tag) NOT BETWEEN 1 AND 100) THEN
    RAISE EXCEPTION 'callboard: tags are up to 20 texts of 1 to 100 characters' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  refused := CASE
    WHEN enqueue.tags IS NULL OR array_ndims(enqueue.tags) > 1 THEN 'tags are up to 20 texts of 1 to 100 characters'
    WHEN concat(enqueue.unique_key, enqueue.limit_key, array_to_string(enqueue.tags, '')) ~ '[[:cntrl:]]'
      THEN 'tags, unique_key and limit_key hold printable characters only'
    WHEN enqueue.delay NOT BETWEEN interval '0' AND interval '3650 days' THEN 'delay lies between 0 and ten years'
    WHEN enqueue.priority NOT BETWEEN 0 AND 9 THEN 'priority lies between 0 (first) and 9'
    WHEN enqueue.max_attempts NOT BETWEEN 1 AND 1000 THEN 'max_attempts lies between 1 and 1000'
    WHEN length(enqueue.unique_key) NOT BETWEEN 1 AND 200 THEN 'unique_key has 1 to 200 characters'
    WHEN length(enqueue.limit_key) NOT BETWEEN 1 AND 200 THEN 'limit_key has 1 to 200 characters'
    WHEN enqueue.on_conflict NOT IN ('existing', 'replace', 'reject') THEN 'on_conflict is existing, replace or reject'
    WHEN enqueue.unique_for NOT BETWEEN interval '0' AND interval '3650 days' THEN 'unique_for lies between 0 and ten years'
    WHEN enqueue.timeout NOT BETWEEN interval '1 millisecond' AND interval '3650 days'
      THEN 'timeout must be longer than 0, and not longer than ten years'
    WHEN enqueue.hard_timeout NOT BETWEEN greatest(enqueue.timeout, interval '1 millisecond') AND interval '3650 days'
      THEN 'hard_timeout must be longer than 0, and not shorter than timeout or longer than ten years'
    WHEN enqueue.min_backoff NOT BETWEEN interval '0' AND interval '3650 days'
      OR enqueue.max_backoff NOT BETWEEN interval '0' AND interval '3650 days'
      THEN 'min_backoff and max_backoff lie between 0 and ten years'
    WHEN enqueue.min_backoff > enqueue.max_backoff THEN 'min_backoff must not be longer than max_backoff'
    WHEN enqueue.expires_at NOT BETWEEN timestamptz '1970-01-01 00:00+00' AND timestamptz '3000-01-01 00:00+00'
      THEN 'expires_at lies between the years 1970 and 3000'
    WHEN length(enqueue.name) NOT BETWEEN 1 AND 200 THEN 'name has 1 to 200 characters'
    WHEN length(enqueue.queue) NOT BETWEEN 1 AND 100 THEN 'queue has 1 to 100 characters'
  END;
  IF refused IS NOT NULL THEN
    RAISE EXCEPTION 'callboard: %', refused USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF due NOT BETWEEN timestamptz '1970-01-01 00:00+00' AND timestamptz '3000-01-01 00:00+00' THEN
    RAISE EXCEPTION 'callboard: the job would run outside of the years 1970 to 3000' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT t.* INTO kind FROM callboard.job_types t WHERE t.name = enqueue.name;
  IF NOT coalesce(unchecked, false) THEN
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
  rule := kind.defaults -> 'unique';
  IF jsonb_typeof(rule) = 'object' THEN
    IF the_key IS NULL THEN
      the_key := enqueue.name || ':' || callboard.derived_key(kind.schema, enqueue.kwargs, rule -> 'by');
      the_key := CASE WHEN length(the_key) <= 200 THEN the_key ELSE callboard.digest(the_key) END;
    END IF;
    period := coalesce(period, (rule ->> 'period')::float * interval '1 second');
    conflict := coalesce(conflict, rule ->> 'on_conflict');
  END IF;
  IF the_limit IS NULL AND jsonb_array_length(coalesce(kind.defaults -> 'limit_by', '[]'::jsonb)) > 0 THEN
    the_limit := callboard.derived_key(kind.schema, enqueue.kwargs, kind.defaults -> 'limit_by');
  END IF;
  IF the_key IS NULL AND (period > interval '0' OR conflict IN ('replace', 'reject')) THEN
    RAISE EXCEPTION 'callboard: unique_for and on_conflict need a unique_key' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  made.priority := coalesce(enqueue.priority, (kind.defaults ->> 'priority')::int, 5);
  made.max_attempts := coalesce(enqueue.max_attempts, (kind.defaults ->> 'max_attempts')::int, 10);
  made.timeout := coalesce(enqueue.timeout, (kind.defaults ->> 'timeout')::float * interval '1 second');
  made.hard_timeout := coalesce(enqueue.hard_timeout, (kind.defaults ->> 'hard_timeout')::float * interval '1 second');
  IF enqueue.min_backoff IS NOT NULL OR enqueue.max_backoff IS NOT NULL THEN
    made.options := jsonb_strip_nulls(jsonb_build_object('min_backoff', extract(epoch FROM enqueue.min_backoff)::float,
      'max_backoff', extract(epoch FROM enqueue.max_backoff)::float));
  END IF;
  made.state := CASE WHEN due > clock_timestamp() THEN 'scheduled' ELSE 'queued' END;
  LOOP
    IF the_key IS NULL OR NOT EXISTS (
      SELECT FROM callboard.unique_holds h WHERE h.key = the_key AND h.until > clock_timestamp()) THEN
      INSERT INTO callboard.jobs (id, name, queue, state, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at,
        unique_key, tags, timeout, hard_timeout, options, limit_key, source, source_id)
      VALUES (callboard.uuid7(), enqueue.name, target, made.state, enqueue.kwargs, made.priority, made.max_attempts, due,
        clock_timestamp(), enqueue.expires_at, the_key, enqueue.tags, made.timeout, made.hard_timeout, made.options, the_limit,
        'sql', session_user)
      ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL
        AND state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying') DO NOTHING
      RETURNING id INTO job;
      IF job IS NOT NULL AND period > interval '0' THEN
        INSERT INTO callboard.unique_holds AS h (key, job_id, until) VALUES (the_key, job, clock_timestamp() + period)
        ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, until = excluded.until WHERE h.until <= clock_timestamp();
        IF NOT FOUND THEN
          -- somebody took it since the look above, and is finished with the job already
          DELETE FROM callboard.jobs j WHERE j.id = job;
          job := NULL;
        END IF;
      END IF;
      EXIT WHEN job IS NOT NULL;
    END IF;
    SELECT j.* INTO holder FROM callboard.jobs j WHERE j.unique_key = the_key
      AND j.state IN ('waiting', 'scheduled', 'queued', 'running', 'retrying');
    IF holder.id IS NULL THEN
      SELECT j.* INTO holder FROM callboard.unique_holds h JOIN callboard.jobs j ON j.id = h.job_id
        WHERE h.key = the_key AND h.until > clock_timestamp();
    END IF;
    CONTINUE WHEN holder.id IS NULL;
    IF conflict = 'reject' THEN
      RAISE EXCEPTION 'callboard: the unique key % is held by job % (%)', quote_literal(the_key), holder.id, holder.state
        USING ERRCODE = 'unique_violation';
    END IF;
    IF conflict IS DISTINCT FROM 'replace' OR holder.state IN ('succeeded', 'failed', 'cancelled', 'quarantined') THEN
      RETURN holder.id;
    END IF;
    IF (holder.name, holder.queue) <> (enqueue.name, target) THEN
      RAISE EXCEPTION 'callboard: the unique key % is held by a job of another name or queue, which is not replaced',
        quote_literal(the_key) USING ERRCODE = 'unique_violation';
    END IF;
    IF holder.state = 'running' THEN
      -- it runs on without its key; what was said last is a new job, and is not lost
      UPDATE callboard.jobs j SET unique_key = NULL WHERE j.id = holder.id AND j.unique_key = the_key AND j.state = 'running';
      IF FOUND THEN
        DELETE FROM callboard.unique_holds h WHERE h.key = the_key AND h.job_id = holder.id RETURNING h.until INTO kept_until;
      END IF;
      CONTINUE;
    END IF;
    UPDATE callboard.jobs j SET state = CASE WHEN j.state = 'waiting' THEN 'waiting' ELSE made.state END, epoch = j.epoch + 1,
      attempt = 0, args = '[]', kwargs = enqueue.kwargs, priority = made.priority, max_attempts = made.max_attempts, run_at = due,
      expires_at = enqueue.expires_at, tags = enqueue.tags, timeout = made.timeout, hard_timeout = made.hard_timeout,
      options = made.options, limit_key = the_limit, started_at = NULL, progress = NULL, progress_note = NULL, put_off = 0,
      put_off_reason = NULL
    WHERE j.id = holder.id AND j.state IN ('waiting', 'scheduled', 'queued', 'retrying');
    IF FOUND THEN
      job := holder.id;
      kept_until := clock_timestamp() + nullif(period, interval '0');
      EXIT;
    END IF;
  END LOOP;
  IF kept_until IS NOT NULL THEN
    INSERT INTO callboard.unique_holds AS h (key, job_id, until) VALUES (the_key, job, kept_until)
    ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, until = greatest(h.until, excluded.until);
  END IF;
  PERFORM pg_notify('callboard_queued', target);
  RETURN job;
END
$$;
