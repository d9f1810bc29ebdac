"""Values that are independent of jobs: time, ids, durations, JSON, and field types."""
