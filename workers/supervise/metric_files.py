"""The files in which the children of a worker count. The files of dead children become one file.

prometheus_client gives each process a file for each kind of metric: `counter_<pid>.db`,
`gauge_livesum_<pid>.db`. It never deletes them, so a worker whose children die often would read thousands.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict, mmap_key

Combine = Callable[[tuple[float, float], tuple[float, float]], tuple[float, float]]

#: Stands for the pid in the name of the file that has the counts of dead children. No process has it.
_DEAD: Final = 0
_ADDED: Final = ("counter", "histogram", "summary")
#: How two entries (value, timestamp) of one series become one, by the kind of a file. A dead child's files of
#: other kinds are deleted: they hold gauges of living processes, or of each process.
_COMBINED: Final[dict[str, Combine]] = {
    **dict.fromkeys((*_ADDED, "gauge_sum"), lambda a, b: (a[0] + b[0], 0.0)),
    "gauge_min": min,
    "gauge_max": max,
    "gauge_mostrecent": lambda a, b: max(a, b, key=lambda entry: entry[1]),
}


class MetricFiles:
    """The files of one folder.

    admitted: takes the name of a metric and the labels of a sample, and returns the labels to count it under.
    """

    def __init__(self, folder: Path, admitted: Callable[[str, dict[str, str]], dict[str, str]]) -> None:
        self._folder = folder
        self._admitted = admitted

    def read(self) -> list[str]:
        """Combine the files of dead children; return the paths of the files that hold all counts."""
        dead: defaultdict[str, list[Path]] = defaultdict(list)
        kept: defaultdict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._folder.glob("*.db")):
            kind, _, pid = path.stem.rpartition("_")
            ended = int(pid) != _DEAD and not _lives(int(pid))
            (dead if ended else kept)[kind].append(path)
        for kind, paths in dead.items():
            if kind in _COMBINED:
                store = self._folder / f"{kind}_{_DEAD}.db"
                self._combine(store, kind, paths)
                kept[kind] = [*(path for path in kept[kind] if path != store), store]
            for path in paths:
                path.unlink()
        return [str(path) for kind, paths in kept.items() for path in self._in_few(kind, paths)]

    def _in_few(self, kind: str, paths: Iterable[Path]) -> list[Path]:
        """Return files with the counts of these files. Counters become one file, which has their sums.

        The library takes four times as long to add up files.
        """
        # A child that is starting has empty files, which the library cannot read.
        filled = [path for path in paths if path.stat().st_size]
        if kind not in _ADDED or len(filled) < 2:  # noqa: PLR2004 - nothing to add
            return filled
        sums: dict[str, float] = {}
        for path in filled:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
                sums[key] = sums.get(key, 0.0) + value
        # It is no .db file, so the next call does not read it.
        summed = self._folder / f"{kind}_{_DEAD}.sum"
        summed.unlink(missing_ok=True)
        store = MmapedDict(str(summed))  # type: ignore[no-untyped-call]
        try:
            for key, value in sums.items():
                store.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
        finally:
            store.close()  # type: ignore[no-untyped-call]
        return [summed]

    def _combine(self, total: Path, kind: str, paths: list[Path]) -> None:
        """Add the counts of dead children to those of the ones before."""
        combine = _COMBINED[kind]
        store = MmapedDict(str(total))  # type: ignore[no-untyped-call]
        try:
            known = {key: (value, at) for key, value, at in store.read_all_values()}  # type: ignore[no-untyped-call]
            for path in paths:
                for key, entry in self._entries(path):
                    known[key] = combine(known[key], entry) if key in known else entry
            for key, (value, at) in known.items():
                store.write_value(key, value, at)  # type: ignore[no-untyped-call]
        finally:
            store.close()  # type: ignore[no-untyped-call]

    def _entries(self, path: Path) -> Iterator[tuple[str, tuple[float, float]]]:
        """Yield the entries of a file by the key under which they are counted."""
        if not path.stat().st_size:
            return
        for key, value, at, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            family, name, labels, documentation = json.loads(key)
            admitted = self._admitted(family, labels)
            yield mmap_key(family, name, [*admitted], [*admitted.values()], documentation), (value, at)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
