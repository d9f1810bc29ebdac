"""The exit codes of worker children. The supervisor decides by them what follows."""

from typing import Final

#: The end of a child that was asked to stop, or of a lone child without work.
EXIT_OK: Final = 0
#: The child cannot run as it is configured: a setting, or a module that cannot be imported.
EXIT_CONFIG: Final = 2
#: The child lost a thread that it needs, or a job changed the process for good. The child has handed its jobs
#: back; another child takes its place.
EXIT_REPLACED: Final = 70
#: Postgres or Redis did not answer while the child started.
EXIT_UNAVAILABLE: Final = 7
