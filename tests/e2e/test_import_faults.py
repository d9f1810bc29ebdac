"""Faults of job modules at import: the worker names the module, the file and the line, and starts no loop."""

import os
import signal

import pytest

from tests.e2e.stage import Process, Stage, until

GOOD = "from stage_jobs import clock\n"
#: A process that runs nothing but an import may take long on a busy machine. Seconds.
PATIENCE = 60.0

#: By the kind of fault: the module's text, and what the one message says.
FAULTS = {
    "missing": (
        "import os\nimport nowhere_to_be_found\n",
        "No module named 'nowhere_to_be_found' ({0}, line 2)",
    ),
    "syntax": ("import os\ndef broken(:\n", "SyntaxError: invalid syntax ({0}, line 2)"),
    "exit": ("import sys\nsys.exit()\n", "SystemExit ({0}, line 2)"),
    "interrupt": ("raise KeyboardInterrupt\n", "KeyboardInterrupt ({0}, line 1)"),
    "left": ("import os\nos._exit(0)\n", "the process called os._exit(0) while it imported the module '{1}'"),
    "option": (
        "from callboard import job\n\n@job(queue='no queue!')\ndef work() -> None: ...\n",
        "({0}, line 3)",
    ),
    "segfault": (
        "import ctypes\nctypes.string_at(0)\n",
        "was killed by SIGSEGV while it imported the module '{1}' of CALLBOARD_JOBS ({0}, line 2)",
    ),
}


def told(worker: Process) -> list[str]:
    return [str(event["reason"]) for event in worker.events("worker.boot_failed")]


@pytest.mark.timeout(200)
def test_a_module_that_fails_at_import_ends_the_worker_with_one_message_that_names_the_line(
    stage: Stage,
) -> None:
    workers = {}
    for kind, (text, _) in FAULTS.items():
        (stage.folder / f"fault_{kind}.py").write_text(text)
        workers[kind] = stage.start("worker", processes=2, jobs=f"stage_jobs,fault_{kind}")
    for kind, (_, message) in FAULTS.items():
        worker, module = workers[kind], f"fault_{kind}"
        assert worker.ends(PATIENCE) == 2, kind
        (reason,) = told(worker)
        assert message.format(f"{module}.py", module) in reason
        assert f"'{module}'" in reason
        assert len(worker.events("worker.started")) == 2


def test_the_fault_of_an_inner_module_and_of_a_circular_import_is_the_real_one(stage: Stage) -> None:
    (stage.folder / "inner.py").write_text("import os\n\nimport not_installed\n")
    (stage.folder / "outer.py").write_text("import inner\n")
    (stage.folder / "hen.py").write_text("from egg import yolk\nfeather = 1\n")
    (stage.folder / "egg.py").write_text("from hen import feather\nyolk = 1\n")
    (stage.folder / "ends.py").write_text("raise SystemExit(3)\nMIDDLEWARE = 1\n")
    inner, circular = (stage.start("worker", processes=1, jobs=name) for name in ("outer", "hen"))
    middleware = stage.start("worker", processes=1, middleware="ends:MIDDLEWARE")
    assert [worker.ends(PATIENCE) for worker in (inner, circular, middleware)] == [2, 2, 2]
    (reason,) = told(inner)
    assert reason == (
        "CALLBOARD_JOBS: the module 'outer' cannot be imported: ModuleNotFoundError: No module named"
        " 'not_installed' (inner.py, line 3)"
    )
    (reason,) = told(circular)
    assert "the module 'hen' cannot be imported: ImportError: cannot import name 'feather'" in reason
    assert "(egg.py, line 1)" in reason
    assert told(middleware) == [
        "CALLBOARD_MIDDLEWARE: 'ends:MIDDLEWARE' cannot be loaded: SystemExit: 3 (ends.py, line 1)"
    ]


@pytest.mark.timeout(200)
def test_a_module_that_breaks_under_a_running_worker_is_tried_again_while_the_others_work(
    stage: Stage,
) -> None:
    module = stage.folder / "changing.py"
    module.write_text(GOOD)
    worker = stage.worker(processes=2, jobs="changing")
    victim, other = stage.leases(worker)
    module.write_text("import gone_since_then\n")
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: len(told(worker)) >= 2, PATIENCE)
    assert "No module named 'gone_since_then' (changing.py, line 1)" in told(worker)[-1]
    assert worker.alive
    assert stage.platform.waiting.wait(stage.enqueue("clock"), None).worker_id == other.id
    module.write_text(GOOD)
    until(lambda: len(stage.leases(worker)) == 2, PATIENCE)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_module_that_takes_long_is_waited_for_and_one_that_hangs_is_named(stage: Stage) -> None:
    (stage.folder / "slow.py").write_text(f"import time\ntime.sleep(40)\n{GOOD}")
    (stage.folder / "hangs.py").write_text("import time\ntime.sleep(1000)\n")
    slow, hangs = (stage.start("worker", processes=1, jobs=name) for name in ("slow", "hangs"))
    until(lambda: stage.leases(slow), PATIENCE)
    assert hangs.ends(PATIENCE) == 2
    (reason,) = told(hangs)
    assert reason == (
        "the process was not ready after 60 s while it imported the module 'hangs' of CALLBOARD_JOBS"
        " (hangs.py, line 2)"
    )
    assert told(slow) == []
