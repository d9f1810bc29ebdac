"""Start the platform, enqueue jobs through every door and show what ran. Exit with 0 only if all succeed."""

import os
import signal
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, NoReturn

import httpx
import psycopg

from callboard import CallboardError, Client
from callboard.config.embedded import servers
from callboard.config.logging import configure
from callboard.config.settings import load_settings
from callboard.jobs.model.basics.clock import SYSTEM
from examples.demo.doors import Doors
from examples.demo.ran import Ran
from examples.demo.show import Show
from examples.demo.stage import DemoFailed, Stage

#: A demo that takes longer than this hangs. Seconds.
_DEADLINE: Final = 240
_INTERRUPTED: Final = 130
_TERMINATED: Final = 143


def main() -> int:
    """Run the demo and return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_DEADLINE)
    show, started = Show(), SYSTEM.monotonic()
    show.heading("Callboard", "one platform, every door, real work")
    with tempfile.TemporaryDirectory(prefix="callboard-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # if root runs the demo, Postgres runs as nobody, and must be able to enter the folder
        folder.chmod(0o711)
        stage, before = None, Path.cwd()
        try:
            configure("auto", "warning")
            stage = Stage(folder)
            ran = perform(show, stage)
        except (DemoFailed, CallboardError, httpx.HTTPError, psycopg.Error) as error:
            show.say(f"\n{error}\n", "bold red")
            show.say("\n".join(stage.last_log if stage else []))
            return 1
        except KeyboardInterrupt:
            show.say("\nInterrupted. Everything is stopped.\n")
            return _INTERRUPTED
        finally:
            # The folder is about to be deleted.
            os.chdir(before)
    return conclude(show, ran, SYSTEM.monotonic() - started)


def perform(show: Show, stage: Stage) -> list[Ran]:
    """Run all steps of the demo and return the jobs that ran. Everything is stopped when it returns."""
    ran: list[Ran] = []
    with ExitStack() as opened:
        with show.step("Platform", "Postgres, Valkey, api, scheduler, workers …") as step:
            opened.enter_context(stage.up())
            urls = opened.enter_context(servers(load_settings()))
            client = opened.enter_context(Client.from_env())
            step.done = f"'callboard up' answers at {stage.url}"
        doors = opened.enter_context(closing(Doors(stage, client, urls.database_url)))
        with show.step("Schedule", "callboard schedule create …") as step:
            doors.schedule(step)
        for title, doing, door in (
            ("Command line", "callboard job enqueue build_report …", doors.command_line),
            ("HTTP", "POST /v1/jobs …", doors.http),
            ("Webhook", "POST /webhooks/… …", doors.webhook),
            ("SQL", "select callboard.enqueue('flaky', …)", doors.sql),
            ("Dramatiq", "count_words.send(…)", doors.actor),
            ("Python", "client.enqueue_many('count_primes', …)", doors.python),
            ("Schedule", "waiting for the second tick", doors.ticks),
        ):
            with show.step(title, doing) as step:
                ran += door(step)
        show.table(ran)
        with show.step("Platform", "stopping") as step:
            opened.close()
            step.done = "stopped: workers, scheduler, api, servers"
    return ran


def conclude(show: Show, ran: list[Ran], seconds: float) -> int:
    """Print the summary and return the exit code."""
    unsuccessful = [one for one in ran if not one.succeeded]
    for one in unsuccessful[:10]:
        show.say(f"{one.name} ({one.door}) is {one.state}: {one.last_error}", "red")
    doors = len({one.door for one in ran})
    if unsuccessful:
        show.say(f"\n{len(unsuccessful):,} of {len(ran):,} jobs did not succeed.\n", "bold red")
        return 1
    show.say(f"\nAll {len(ran):,} jobs through {doors} doors succeeded, in {seconds:.0f} s.", "bold green")
    show.say("Next: 'make up' starts the platform and keeps it running; README.md has the next steps.\n", "")
    return 0


def _terminate(_number: int, _frame: object) -> NoReturn:
    sys.exit(_TERMINATED)


def _too_long(_number: int, _frame: object) -> NoReturn:
    raise DemoFailed(f"the demo did not finish within {_DEADLINE} s")


if __name__ == "__main__":
    sys.exit(main())
