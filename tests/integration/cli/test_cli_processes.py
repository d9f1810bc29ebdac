"""The parent of the processes of `callboard up`, with small children in place of ours; and the command as a
process.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PARENT = """
import os, sys
from pathlib import Path
from callboard.cli.console.processes import Child, Parent
folder = Path(sys.argv[1])
names = sys.argv[2:]
children = [Child(n.partition("=")[0], [sys.executable, "-c", n.partition("=")[2] + WORK, str(folder), n.partition("=")[0]], os.environ, PATIENCE) for n in names]
for child in children:
    if child.name == "late": child.may_begin = (folder / "worker").exists
parent = Parent(children, is_ready=lambda: all((folder / c.name).exists() for c in children), on_ready=lambda: (folder / "ready").touch(), back_off=0.01)
sys.exit(parent.run())
"""
#: Says in a file that it runs, and in a log that it was asked to stop.
CHILD = """
import os, signal, sys, time
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
def stop(*_):
    with (folder / "stops").open("a") as log: log.write(name + "\\n")
    if not stubborn: sys.exit(0)
signal.signal(signal.SIGTERM, stop)
part = folder / (name + ".part")
part.write_text(str(os.getpid()))
part.rename(folder / name)
while True: time.sleep(0.05)
"""
STUBBORN, GENTLE = "stubborn = True\n", "stubborn = False\n"
#: Once the other is there.
DIES = """
import sys, time
from pathlib import Path
while not (Path(sys.argv[1]) / "api").exists(): time.sleep(0.01)
raise SystemExit(3)
"""
CRASHES = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
#: Waits until it may begin, and fails if the worker has not begun.
LATE = (
    GENTLE
    + """
import sys
from pathlib import Path
sys.stdin.read()
if not (Path(sys.argv[1]) / "worker").exists(): raise SystemExit(4)
"""
)
DEADLINE = 60.0


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parent: subprocess.Popen[bytes] | None = None

    def start(self, *, patience: float = 10 * DEADLINE, **children: str) -> None:
        """Start the parent, which gives its children so many seconds to stop."""
        names = [f"{name}={text}" for name, text in children.items()]
        program = PARENT.replace("WORK", repr(CHILD)).replace("PATIENCE", str(patience))
        self.parent = subprocess.Popen(
            [sys.executable, "-c", program, str(self.folder), *names],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def until(self, condition) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ready(self) -> None:
        self.until((self.folder / "ready").exists)

    def pid(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def stops(self) -> list[str]:
        log = self.folder / "stops"
        return log.read_text().split() if log.exists() else []

    def ends(self) -> int:
        return self.parent.wait(DEADLINE)


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    if made.parent.poll() is None:
        made.parent.kill()
    made.parent.wait()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_children_are_stopped_one_after_the_other_from_the_last_on(stage):
    stage.start(api=GENTLE, scheduler=GENTLE, worker=GENTLE)
    stage.ready()
    stage.parent.send_signal(signal.SIGTERM)
    assert stage.ends() == 0
    assert stage.stops() == ["worker", "scheduler", "api"]


def test_a_child_that_dies_is_replaced(stage):
    stage.start(api=GENTLE, worker=GENTLE)
    stage.ready()
    first = stage.pid("worker")
    os.kill(first, signal.SIGKILL)
    stage.until(lambda: stage.pid("worker") != first)
    assert not gone(stage.pid("api"))
    stage.parent.send_signal(signal.SIGINT)
    assert stage.ends() == 0


def test_a_child_that_fails_before_all_are_ready_ends_everything_with_its_code(stage):
    stage.start(api=GENTLE, worker=DIES)
    assert stage.ends() == 3
    assert gone(stage.pid("api"))


def test_a_child_that_keeps_crashing_ends_everything(stage):
    stage.start(worker=CRASHES)
    assert stage.ends() == 1


def test_a_child_that_waits_begins_only_when_it_may(stage):
    stage.start(late=LATE, worker=GENTLE)
    stage.ready()
    stage.parent.send_signal(signal.SIGTERM)
    assert stage.ends() == 0
    assert stage.stops() == ["worker", "late"]


def test_a_second_signal_asks_all_at_once_and_does_not_wait_for_the_stubborn(stage):
    stage.start(api=GENTLE, worker=STUBBORN)
    stage.ready()
    stage.parent.send_signal(signal.SIGINT)
    stage.until(lambda: stage.stops() == ["worker"])
    stage.parent.send_signal(signal.SIGINT)
    stage.until(lambda: "api" in stage.stops())
    stage.parent.send_signal(signal.SIGINT)
    assert stage.ends() == 0
    assert gone(stage.pid("worker"))


def test_a_child_that_does_not_stop_in_time_is_killed(stage):
    stage.start(patience=1.0, worker=STUBBORN)
    stage.ready()
    stage.parent.send_signal(signal.SIGTERM)
    assert stage.ends() == 0
    assert gone(stage.pid("worker"))


def test_children_do_not_outlive_a_parent_that_is_killed(stage):
    stage.start(api=GENTLE, worker=GENTLE)
    stage.ready()
    pids = [stage.pid("api"), stage.pid("worker")]
    stage.parent.kill()
    stage.until(lambda: all(gone(pid) for pid in pids))


def test_a_closed_pipe_is_quiet(callboard):
    program = "from callboard.cli.main import main; import sys; sys.argv = ['callboard', 'schedule', 'preview', '* * * * *', '--count', '1000']; main()"
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.close()
    _, said = command.communicate(timeout=DEADLINE)
    assert (command.returncode, said) == (1, b"")
