"""What is said of a fault at import: the error, and the line of the user's code."""

import signal
import sys
import time

import pytest

from callboard.jobs.dramatiq.import_faults import described, located, most_relevant, naming_faults
from callboard.jobs.errors import InvalidInput
from callboard.workers.boot_report import BootReport
from callboard.workers.job_imports import import_jobs


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes modules that can be imported from the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield lambda name, text: (tmp_path / f"{name}.py").write_text(text)
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\nimport nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1\n2 +\n", "SyntaxError: invalid syntax"),
        ("1\nraise SystemExit\n", "SystemExit"),
        ("1\nraise SystemExit('no key')\n", "SystemExit: no key"),
        ("1\nraise GeneratorExit\n", "GeneratorExit"),
        ("1\nraise BaseException('any\\nkind')\n", "BaseException: any kind"),
        ("import json\njson.loads('{')\n", "JSONDecodeError: Expecting property name"),
        ("from callboard import job\n@job(max_attempts=0)\ndef f() -> None: ...\n", "max_attempts"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_line(modules, text, told):
    modules("shop_faulty", text)
    with pytest.raises(InvalidInput) as caught:
        import_jobs(("shop_faulty",), BootReport())
    message = caught.value.message
    assert message.startswith("CALLBOARD_JOBS: the module 'shop_faulty' cannot be imported: ")
    assert told in message
    assert message.endswith("(shop_faulty.py, line 2)")
    assert "\n" not in message


def test_a_module_that_does_not_exist_is_named_without_a_line_of_python_itself():
    with pytest.raises(InvalidInput) as caught:
        import_jobs(("nowhere_at_all",), BootReport())
    assert caught.value.message.endswith("ModuleNotFoundError: No module named 'nowhere_at_all'")


def test_ctrl_c_of_a_program_is_passed_on_and_a_modules_own_interrupt_in_a_worker_is_a_fault(monkeypatch):
    with pytest.raises(KeyboardInterrupt), naming_faults("it"):
        raise KeyboardInterrupt
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    with pytest.raises(InvalidInput, match="it: KeyboardInterrupt"), naming_faults("it"):
        raise KeyboardInterrupt


def test_an_error_whose_text_is_long_or_cannot_be_read_is_described_all_the_same():
    assert described(Unreadable()) == "Unreadable: its text cannot be read (it raised RuntimeError)"
    assert len(described(ValueError("x" * 10_000))) < 600


def test_the_place_to_look_at_is_the_innermost_line_of_the_users_own_code():
    installed, own = (sys.modules["signal"].__file__, 7), ("/app/shop.py", 3)
    frozen = ("<frozen importlib._bootstrap>", 1)
    assert most_relevant([("/app/main.py", 1), own, frozen, installed]) == own
    assert most_relevant([frozen, installed]) == installed
    assert most_relevant([frozen]) is None


def test_a_report_holds_texts_of_a_bounded_length():
    report = BootReport()
    report.begin("imported the module 'x'\0" + "é" * 9_000)
    report.fail("é" * 9_000)
    assert report.is_importing
    assert 0 < len(report.step.encode()) < 512
    assert 0 < len(report.fault.encode()) < 4_096
    assert report.place() == ""


class Exits(Exception):
    def __str__(self):
        raise SystemExit


class Sleeps(Exception):
    def __str__(self):
        time.sleep(100)
        return ""


def test_an_error_whose_text_exits_or_does_not_return_or_whose_name_is_long_is_described():
    assert described(Exits()) == "Exits: its text cannot be read (it raised SystemExit)"
    assert described(Sleeps()) == "Sleeps: its text cannot be read (it took longer than 1 s)"
    assert len(described(type("A" * 10_000, (Exception,), {})("text"))) < 300


def test_a_place_is_told_although_the_working_directory_is_gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert located(("/shop/jobs.py", 3)) == "/shop/jobs.py, line 3"
