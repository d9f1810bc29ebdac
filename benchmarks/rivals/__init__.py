"""The project that every run measures beside us: bare Dramatiq."""
