"""`make demo`: start the whole platform on this machine and enqueue real work through every door."""
