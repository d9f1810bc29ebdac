"""Install missing Debian packages: as root with apt-get. For other users, print the command to run.

python .ci/debian_packages.py postgresql redis-server
"""
# ruff: noqa: INP001, T201, S603 - a script

import os
import shutil
import subprocess
import sys


def main(packages: list[str]) -> int:
    """Install what is missing; return 1 if that is not possible."""
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return 0
    apt_get = shutil.which("apt-get")
    if apt_get is None or os.geteuid() != 0:
        print(
            f"missing Debian packages; install them first: sudo apt-get install {' '.join(missing)}",
            file=sys.stderr,
        )
        return 1
    print(f"installing {' '.join(missing)} ...", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update",), ("install", "--yes", "--no-install-recommends", *missing)):
        done = subprocess.run(
            [apt_get, "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            print(f"apt-get {' '.join(command)} failed with exit code {done.returncode}", file=sys.stderr)
            return 1
    return 0


def _installed(package: str) -> bool:
    query = shutil.which("dpkg-query")
    if query is None:
        return False
    command = [query, "--show", "--showformat=${db:Status-Status}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout == "installed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
