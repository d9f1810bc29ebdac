"""Worker children are forked by a fork server. They do not depend on it once they run."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from callboard.jobs.dramatiq.definition import define
from callboard.workers.fork_server import READY
from callboard.workers.supervise.fork_client import ForkClient
from tests.e2e import forked_jobs
from tests.e2e.stage import PATIENCE, Process, Stage, until


@pytest.fixture
def stage(stage: Stage) -> Stage:
    (stage.folder / "forked_jobs.py").write_bytes(Path(forked_jobs.__file__).read_bytes())
    actors = (value for value in vars(forked_jobs).values() if hasattr(value, "actor_name"))
    stage.platform.catalogue.publish([define(actor).type for actor in actors])
    stage.start("scheduler")
    return stage


def fork_server(worker: Process) -> psutil.Process:
    """The child of the worker that was there first, and does not work."""
    return min(psutil.Process(worker.pid).children(), key=psutil.Process.create_time)


def told(stage: Stage, worker: Process) -> dict[str, object]:
    """What the worker's child says of its process."""
    end = stage.platform.waiting.wait(stage.enqueue("tells_of_its_process"), None)
    assert end.result is not None, worker.log.read_text()
    return dict(end.result)


def test_a_child_has_the_process_state_of_one_that_was_started_anew(stage: Stage) -> None:
    worker = stage.worker(jobs="forked_jobs", extra={"GIVEN_TO_THE_WORKER": "yes"})
    first = told(stage, worker)
    assert first["folder"] == str(stage.folder)
    assert first["variable"] == "yes"
    assert first["arguments"] == ["run", "worker"]
    assert first["parent"] == first["parent_process"] == worker.pid
    assert first["group"] == worker.pid
    assert first["sigterm_is_handled"]
    assert first["stdin"] == ""
    (lease,) = stage.leases(worker)
    psutil.Process(lease.pid).kill()
    until(lambda: [one for one in stage.leases(worker) if one.id != lease.id])
    second = told(stage, worker)
    assert [first[name] == second[name] for name in ("pid", "random", "uuid", "uuid7")] == [False] * 4


def test_the_exit_handlers_of_a_job_module_run_in_a_forked_child(stage: Stage) -> None:
    flag = stage.folder / "exited"
    worker = stage.worker(jobs="forked_jobs", extra={"FLAG_AT_EXIT": str(flag)})
    told(stage, worker)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert flag.exists()


def test_when_the_fork_server_is_killed_the_children_work_on_and_another_takes_its_place(
    stage: Stage,
) -> None:
    flag = stage.folder / "flag"
    worker = stage.worker(jobs="forked_jobs,stage_jobs")
    held = stage.enqueue("until_there", path=str(flag))
    stage.wait_started(1)
    server = fork_server(worker)
    server.kill()
    (lease,) = stage.leases(worker)
    flag.touch()
    assert stage.platform.waiting.wait(held, None).attempt == 1
    assert not worker.events("worker.exited")
    psutil.Process(lease.pid).kill()
    until(lambda: [one for one in stage.leases(worker) if one.id != lease.id])
    assert told(stage, worker)["parent"] == worker.pid
    assert (fork_server(worker).pid != server.pid, len(psutil.Process(worker.pid).children())) == (True, 2)
    (lost,) = worker.events("worker.fork_server_lost")
    assert lost["then"] == "another is started"
    (death,) = worker.events("worker.exited")
    assert death["code"] == -signal.SIGKILL


def test_without_a_fork_server_that_answers_children_are_started_anew(stage: Stage) -> None:
    """A hung server costs its start a few seconds, and nothing else."""
    worker = stage.worker(jobs="forked_jobs")
    (lease,) = stage.leases(worker)
    fork_server(worker).suspend()
    psutil.Process(lease.pid).kill()
    until(lambda: [one for one in stage.leases(worker) if one.id != lease.id])
    assert told(stage, worker)["parent"] == worker.pid


def test_while_a_fork_server_hangs_the_leases_of_the_other_children_are_renewed(stage: Stage) -> None:
    worker = stage.worker(jobs="forked_jobs,stage_jobs", processes=2, lease_ttl="3s")
    flag = stage.folder / "flag"
    held = stage.enqueue("until_there", path=str(flag))
    stage.wait_started(1)
    holder = stage.job(held).worker_id
    fork_server(worker).suspend()
    (other,) = [lease for lease in stage.leases(worker) if lease.id != holder]
    psutil.Process(other.pid).kill()
    until(lambda: worker.events("worker.fork_server_lost"))
    until(lambda: len(stage.leases(worker)) == 2)
    flag.touch()
    assert stage.platform.waiting.wait(held, None).attempt == 1
    assert stage.job(held).crash_count == 0
    assert not worker.events("worker.lease_lost")


def test_a_worker_goes_on_while_the_system_gives_no_process(stage: Stage) -> None:
    """As at a limit of processes, which other programs may have used up."""
    limit = stage.folder / "no-process"
    site = stage.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, pathlib, _posixsubprocess\n"
        "def limited(call):\n"
        "    def fork(*args):\n"
        f"        if pathlib.Path({str(limit)!r}).exists():\n"
        "            raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "        return call(*args)\n"
        "    return fork\n"
        "os.fork = limited(os.fork)\n"
        "_posixsubprocess.fork_exec = limited(_posixsubprocess.fork_exec)\n"
    )
    worker = stage.worker(
        jobs="forked_jobs,stage_jobs", processes=2, lease_ttl="3s", extra={"PYTHONPATH": str(site)}
    )
    flag = stage.folder / "flag"
    held = stage.enqueue("until_there", path=str(flag))
    stage.wait_started(1)
    holder = stage.job(held).worker_id
    limit.touch()
    (other,) = [lease for lease in stage.leases(worker) if lease.id != holder]
    server = fork_server(worker)
    psutil.Process(other.pid).kill()
    until(lambda: len(worker.events("worker.boot_failed")) > 1)
    limit.unlink()
    until(lambda: len(stage.leases(worker)) == 2)
    flag.touch()
    assert stage.platform.waiting.wait(held, None).attempt == 1
    assert fork_server(worker).pid == server.pid
    assert not worker.events("worker.fork_server_lost")
    assert "Traceback" not in worker.log.read_text()


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_signals_to_a_fork_server_that_starts_are_ignored_without_a_message(
    capfd: pytest.CaptureFixture[str], after: float
) -> None:
    client = ForkClient()
    client.start()
    time.sleep(after)
    assert client._server is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        client._server._process.send_signal(number)
    assert client._server._receive(len(READY), PATIENCE, lambda: None) == READY
    client.stop()
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_a_process_with_threads_is_not_forked(stage: Stage) -> None:
    """As under an agent that watches programs, which Python loads at each start."""
    (stage.folder / "sitecustomize.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    )
    worker = stage.worker(jobs="forked_jobs", extra={"PYTHONPATH": str(stage.folder)})
    (lost,) = worker.events("worker.fork_server_lost")
    assert (lost["reason"], lost["then"]) == ("a thread runs in it", "children are started without it")
    assert told(stage, worker)["parent"] == worker.pid


@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL", "SIGINT to all", "SIGTERM to all"])
def test_a_supervisor_that_ends_leaves_no_process_behind(stage: Stage, way: str) -> None:
    worker = stage.worker(jobs="forked_jobs", grace="0s", processes=2)
    family = psutil.Process(worker.pid).children(recursive=True)
    assert len(family) == 3
    name, _, to_all = way.partition(" to ")
    (worker.send_all if to_all else worker.send)(signal.Signals[name])
    code = worker.ends()
    assert code == (-9 if name == "SIGKILL" else 0)
    until(lambda: not any(process.is_running() for process in family))


def test_signals_to_the_fork_server_do_not_end_it(stage: Stage) -> None:
    worker = stage.worker(jobs="forked_jobs")
    server = fork_server(worker)
    for number in (signal.SIGINT, signal.SIGTERM):
        server.send_signal(number)
    time.sleep(0.3)
    assert server.is_running()
    assert server.status() != psutil.STATUS_ZOMBIE


def test_without_a_fork_server_each_child_is_a_new_interpreter(stage: Stage) -> None:
    worker = stage.worker(jobs="forked_jobs", fork_server=False)
    first = told(stage, worker)
    (lease,) = stage.leases(worker)
    assert lease.pid in {one.pid for one in psutil.Process(worker.pid).children()}
    commands = [" ".join(one.cmdline()) for one in psutil.Process(worker.pid).children()]
    assert not any("fork_server" in command for command in commands)
    psutil.Process(lease.pid).kill()
    until(lambda: [one for one in stage.leases(worker) if one.id != lease.id])
    assert told(stage, worker)["pid"] != first["pid"]
    assert worker.events("worker.fork_server_lost") == []
