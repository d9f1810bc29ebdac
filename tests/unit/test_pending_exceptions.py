"""After an interrupt of a job, no exception is pending in the process: trace and profile functions work."""

import subprocess
import sys

#: Sends an interrupt to a guarded block, which raises it or ends before. Then another call is profiled.
PROGRAM = """
import sys, time
from threading import Event, Thread
from callboard.workers.execute.interrupts import TimeoutInterrupt
from callboard.workers.execute.sync_runner import Guard

guard, inside = Guard(), Event()


def work() -> None:
    try:
        with guard:
            inside.set()
            while True:
                time.sleep(0.01)
    except TimeoutInterrupt:
        print("interrupted")


thread = Thread(target=work)
thread.start()
inside.wait()
assert guard.send(TimeoutInterrupt)
thread.join()
with Guard() as own:
    own._sent = TimeoutInterrupt
calls = []
sys.setprofile(lambda frame, *_: calls.append(frame.f_code.co_name))
(lambda: None)()
sys.setprofile(None)
print(calls[0])
"""


def test_a_profile_function_works_after_interrupts_that_were_raised_and_withdrawn() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["interrupted", "<lambda>"], "")
