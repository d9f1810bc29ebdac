"""Find the programs that wheels bring."""

from importlib.util import find_spec
from pathlib import Path

from callboard.jobs.errors import Unavailable


def program_in_wheel(package: str, pattern: str, *, setting: str) -> Path:
    """Return the newest file of an installed package that matches the pattern.

    Raise Unavailable if there is none; the error names `setting` as the alternative.
    """
    # found but not imported: the package's Python code is not needed
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(folder).glob(pattern))
        if found:
            return found[-1]
    raise Unavailable(
        f"the embedded server needs {package}, which is not installed: pip install 'callboard[embedded]',"
        f" or set {setting}"
    )
