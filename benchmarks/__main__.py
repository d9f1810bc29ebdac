"""`python -m benchmarks`: run cases, print a JSON line for each measurement and a table for each case."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import cases, peers
from benchmarks.arena import Arena
from benchmarks.harness import Case, chosen, run_case, with_peers
from benchmarks.report import table, wording
from callboard.config.logging import configure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 1 if a contender failed or a promise was broken, else 0.

    A speed target that is missed does not fail the run.
    """
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help="a case, or the first word of several cases; default: all"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each case (default: 3)")
    parser.add_argument("--quick", action="store_true", help="few jobs, one round: only to see that it works")
    parser.add_argument(
        "--peers", action="store_true", help="also measure the other projects that are installed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the JSON lines to this file")
    parser.add_argument("--list", action="store_true", help="list the cases and their targets")
    options = parser.parse_args(arguments)
    known = with_peers(cases.every(), peers.installed() if options.peers else [])
    try:
        wanted = chosen(known, options.cases)
    except KeyError as error:
        parser.error(f"there is no case {error}; the cases are {', '.join(case.name for case in known)}")
    if options.list:
        _show(wanted)
        return 0
    configure("human", "warning")
    # SIGTERM stops the servers and the run as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rounds = options.rounds or (1 if options.quick else 3)
    with ExitStack() as opened:
        file = opened.enter_context(options.json.open("a")) if options.json else None

        def emit(record: dict[str, Any]) -> None:
            for out in filter(None, (sys.stdout, file)):
                print(json.dumps(record), file=out, flush=True)

        arena = opened.enter_context(Arena.open(quick=options.quick))
        outcomes = [run_case(case, arena, rounds, emit) for case in wanted]
    for outcome in outcomes:
        print(table(outcome))
    if options.quick:
        print("\nThis was a quick run: it shows that the benchmarks work; its figures mean nothing.")
    return int(any(outcome.failed for outcome in outcomes))


def _show(wanted: Sequence[Case]) -> None:
    for case in wanted:
        print(f"{case.name:<18}{case.about}")
        for target in case.targets:
            print(f"{'':<18}target: {wording(target)}")


if __name__ == "__main__":
    sys.exit(main())
