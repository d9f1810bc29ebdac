"""Values that know nothing of jobs: time, ids, durations, JSON, and the types of fields."""
