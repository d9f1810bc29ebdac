"""All at once, for minutes: what users' code and operators can do to workers, while jobs flow.

Children are killed at random, poison jobs and hostile jobs run, and nobody reads one worker's log. A ledger
shows at the end that no job was lost and that none is recorded as what it was not.

    python -m tests.e2e.drill --minutes 10 --seed 1
"""

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from uuid import UUID

import psutil
import psycopg

from callboard.jobs.model.job import Job
from tests.e2e.hostile_jobs.cases import CASES
from tests.e2e.stage import HERE, Process, Stage, own_servers, own_stage, until
from tests.e2e.witness import WITNESS

#: Cases that change what later jobs of their process may do; the table test has them.
LEFT_OUT = frozenset(
    {
        "uses_up_descriptors", "leaves_a_thread_that_does_not_end", "empties_its_environment",
        "makes_tasks_by_its_own_factory",
    }
)  # fmt: skip
POISON = ("exit", "segfault", "kill")
#: So many jobs are unfinished at most.
MOST_UNFINISHED = 400
#: Between two disturbances. Seconds.
PAUSE = 6.0


@dataclass
class Drill:
    stage: Stage
    random: random.Random
    #: What each job is, and how it must end.
    expected: dict[UUID, tuple[str, str]] = field(default_factory=dict)
    workers: dict[str, Process] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    #: The processes that the drill killed.
    killed: set[int] = field(default_factory=set)

    def start(self, name: str) -> None:
        self.workers[name] = self.stage.start(
            "worker", stalled=name == "stalled", jobs="stage_jobs,hostile_jobs", processes=2, threads=4, grace="5s",
            lease_ttl="10s",
        )  # fmt: skip

    def enqueue(self, what: str, state: str, name: str, /, **kwargs: object) -> UUID:
        job = self.stage.enqueue(name, **kwargs)
        self.expected[job] = (what, state)
        return job

    def some_jobs(self) -> None:
        """Enqueue a handful of jobs of every kind."""
        for n in range(20):
            self.enqueue("good", "succeeded", "good", n=n)
            self.enqueue("good_async", "succeeded", "good_async", n=n)
        for n in range(3):
            self.enqueue("second", "succeeded", "second", n=n)
            self.enqueue("naps", "succeeded", "naps", seconds=1.5)
        self.enqueue("fails", "failed", "logs_and_fails")
        self.enqueue("too_long", "failed", "too_long")
        unwanted = self.enqueue("unwanted", "cancelled", "waits_for_cancel")
        self.stage.platform.control.cancel(unwanted)
        name = self.random.choice([name for name in CASES if name not in LEFT_OUT])
        state = CASES[name].state
        self.enqueue(name, "failed" if state == "retrying" else state, CASES[name].job, what=name)

    def poison(self) -> None:
        how = self.random.choice(POISON)
        kind = self.random.choice(["deadly", "deadly_async"])
        self.enqueue(f"poison ({how})", "quarantined", kind, how=how)

    def children(self) -> list[psutil.Process]:
        """Return the children of the workers, and their fork servers, which may die too."""
        found = []
        for worker in self.workers.values():
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(worker.pid).children()
                found += [child for child in children if "fork_server" in " ".join(child.cmdline())]
        return found

    def kill_a_child(self) -> None:
        children = self.children()
        if children:
            child = self.random.choice(children)
            self.killed.add(child.pid)
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def framed(self, job: Job) -> bool:
        """Return whether the drill killed the job's process each time that the job died alone."""
        deaths = [
            int(error["worker"].rpartition(":")[2]) for error in job.errors if error["class"] == "WorkerDied"
        ]
        return job.state == "quarantined" and bool(deaths) and self.killed.issuperset(deaths)

    def kill_a_worker(self) -> None:
        name = self.random.choice(list(self.workers))
        self.killed.update(child.pid for child in self.children())
        self.workers[name].kill_all()
        self.start(name)

    def restart_a_worker(self) -> None:
        name = self.random.choice(list(self.workers))
        worker = self.workers[name]
        worker.send(signal.SIGTERM)
        worker.ends(60)
        self.start(name)


def disturb(drill: Drill, seconds: float) -> None:
    """Disturb again and again while jobs flow."""
    chances: list[Callable[[], None]] = [
        *[drill.kill_a_child] * 4, *[drill.poison] * 3, drill.kill_a_worker, drill.restart_a_worker,
    ]  # fmt: skip
    began, next_at = time.monotonic(), 0.0
    while (passed := time.monotonic() - began) < seconds:
        if unfinished(drill.stage) < MOST_UNFINISHED:
            drill.some_jobs()
        if passed > next_at:
            chosen = drill.random.choice(chances)
            print(f"{passed:6.1f} s  {chosen.__name__}  {dict(drill.stage.states())}", flush=True)
            chosen()
            drill.done[chosen.__name__] += 1
            next_at = passed + drill.random.uniform(1, PAUSE)
        time.sleep(0.5)


def unfinished(stage: Stage) -> int:
    states = stage.states()
    return sum(states[state] for state in ("queued", "scheduled", "running", "retrying", "waiting"))


def judge(drill: Drill, database_url: str) -> list[str]:
    """Return what is wrong at the end."""
    wrong: list[str] = []
    jobs = {job: drill.stage.job(job) for job in drill.expected}
    framed = {job for job in jobs if drill.expected[job][1] != "quarantined" and drill.framed(jobs[job])}
    print(
        f"innocents that were killed alone after two suspicions, and quarantined by the rule: {len(framed)}"
    )
    for job, (what, state) in drill.expected.items():
        if job in framed:
            continue
        wrong += [f"{what} {job}: {problem}" for problem in problems(jobs[job], what, state)]
    with psycopg.connect(database_url, autocommit=True) as admin:
        twice = admin.execute(
            "SELECT job, count(*) FROM public.ends GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
        unknown = set(admin.execute("SELECT id FROM callboard.jobs").fetchall()) - {(job,) for job in jobs}
    wrong += [f"{job} ended {count} times" for job, count in twice]
    wrong += [f"nobody enqueued {job}" for (job,) in unknown]
    print(f"disturbances: {dict(drill.done)}; jobs: {len(jobs):,}; {dict(drill.stage.states())}")
    poison = [job for job, (_, state) in drill.expected.items() if state == "quarantined"]
    starts = drill.stage.starts()
    print(f"poison began: {dict(Counter(starts[str(job)] for job in poison))} times")
    return wrong


def problems(job: Job, what: str, state: str) -> list[str]:
    if job.state != state:
        return [f"{job.state}, not {state} {job.errors[-1:]}"]
    if what in CASES and CASES[what].error:
        kind = job.errors[-1]["class"].rpartition(".")[2] if job.errors else ""
        if kind != CASES[what].error:
            return [f"{kind}, not {CASES[what].error}"]
    return []


def run(minutes: float, seed: int) -> int:
    with ExitStack() as opened:
        servers = opened.enter_context(own_servers())
        urls = servers.ensure()
        stage = opened.enter_context(own_stage(servers, urls.database_url, urls.redis_url))
        shutil.copytree(HERE / "hostile_jobs", stage.folder / "hostile_jobs")
        with psycopg.connect(urls.database_url, autocommit=True) as admin:
            admin.execute(WITNESS)
        drill = Drill(stage, random.Random(seed))
        stage.start("scheduler")
        for name in ("read", "stalled"):
            drill.start(name)
        until(lambda: len(stage.platform.workers.live()) == 4)
        disturb(drill, minutes * 60)
        print("no more disturbances", flush=True)
        with suppress(AssertionError):
            until(lambda: not unfinished(stage), patience=180)
        wrong = judge(drill, urls.database_url)
    for problem in wrong:
        print(f"WRONG: {problem}")
    print("nothing is wrong" if not wrong else f"{len(wrong)} things are wrong")
    return bool(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return run(given.minutes, given.seed)


if __name__ == "__main__":
    sys.exit(main())
