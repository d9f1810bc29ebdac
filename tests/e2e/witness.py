"""A witness in the database: it notes every end of a job."""

#: Every end of a job leaves a row, also one that should not have happened.
WITNESS = """
CREATE TABLE public.ends (job uuid, state text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION public.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.ends (job, state) VALUES (NEW.id, NEW.state); RETURN NEW; END $$;
CREATE TRIGGER note_end AFTER UPDATE OF state ON callboard.jobs FOR EACH ROW
  WHEN (NEW.state IN ('succeeded', 'failed', 'cancelled', 'quarantined') AND OLD.state <> NEW.state)
  EXECUTE FUNCTION public.note_end();
"""
