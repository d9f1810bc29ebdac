"""`make demo`: the whole platform on this machine, and real work through every door."""
