"""Where the wheels keep their programs."""

from importlib.util import find_spec
from pathlib import Path

from callboard.jobs.errors import Unavailable


def program_in_wheel(package: str, pattern: str, *, instead: str) -> Path:
    """The newest program of an installed package that fits the pattern; raises Unavailable when there is none."""
    # found, not imported: nothing of the package's own Python is needed
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(place).glob(pattern))
        if found:
            return found[-1]
    raise Unavailable(
        f"no embedded server here, for {package} is not installed: pip install 'callboard[embedded]' or set {instead}"
    )
