"""A wall clock that a test moves while processes run. Their monotonic clock stays as it is."""

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """The wall clock of the processes that are started with its environment."""

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "wall_clock.so", folder / "offset"
        subprocess.run(["/usr/bin/gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self._offset.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def jump(self, to: timedelta) -> None:
        """Set the clock to this distance from the true time, at once for all processes."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("q", int(to.total_seconds())))


@contextmanager
def wall_clock() -> Iterator[WallClock]:
    with TemporaryDirectory(prefix="callboard-clock-") as name:
        folder = Path(name)
        # a server may run as another account
        folder.chmod(0o755)
        yield WallClock(folder)
