"""The errors of tests that ask for what their tool cannot do."""

from callboard.jobs.errors import InvalidInput


class NeedsServers(InvalidInput):
    """A test without servers asked for what only Postgres can answer. The `drain` fixture has the servers."""

    stored_as = "NeedsServers"
