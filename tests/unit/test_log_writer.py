"""The log writer: no log call waits for the stream, whatever the stream does."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.config import log_writer
from callboard.config.log_writer import MOST_LINES, Background, LogWriter


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")
        self.read = bytearray()

    def read_until(self, text: str) -> str:
        deadline = time.monotonic() + 20
        while text.encode() not in self.read:
            assert time.monotonic() < deadline, self.read[-500:]
            self.read += os.read(self.reader, 65_536)
        return self.read.decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    # a writer that waits for this pipe ends with an error
    os.close(made.reader)


def writer_to(stream: object, dropped: list[int] | None = None) -> LogWriter:
    counts = [] if dropped is None else dropped
    return LogWriter(stream, lambda count: f"{count} lines were dropped", Background(counts.append))


def until(holds) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_lines_come_in_their_order_and_a_flush_waits_for_them(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        writer = writer_to(stream)
        for number in range(5_000):
            writer.put(f"line {number} \udcff")
        assert writer.flush(20)
    text = (tmp_path / "log").read_text()
    assert text == "".join(f"line {number} \\udcff\n" for number in range(5_000))


def test_the_lines_of_one_thread_stay_in_order_beside_those_of_others(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        writer = writer_to(stream)
        threads = [
            threading.Thread(target=lambda n=n: [writer.put(f"{n} {i}") for i in range(500)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.flush(20)
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    for n in "0123":
        assert [int(i) for name, i in lines if name == n] == list(range(500))


def test_while_the_reader_stalls_lines_are_dropped_and_one_line_says_how_many(pipe):
    dropped: list[int] = []
    writer = writer_to(pipe.stream, dropped)
    for number in range(3 * MOST_LINES):
        writer.put(f"line {number} " + "x" * 90)
    assert writer.dropped > 0
    assert not writer.flush(0.05)
    until(lambda: sum(dropped) == writer.dropped)
    writer.put("not this one")
    gone = writer.dropped
    lines = pipe.read_until("lines were dropped\n").splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [str(n) for n in range(len(lines) - 1)]
    assert lines[-1] == f"{gone} lines were dropped"
    assert len(lines) - 1 + gone == 3 * MOST_LINES + 1
    writer.put("the next one")
    assert pipe.read_until("next one\n").count("were dropped") == 1


def test_waiting_lines_have_a_limit_in_characters_too(pipe, monkeypatch):
    monkeypatch.setattr(log_writer, "MOST_CHARACTERS", 1_000_000)
    writer = writer_to(pipe.stream)
    for _ in range(100):
        writer.put("x" * 100_000)
    assert 80 <= writer.dropped <= 95


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_drops_lines_and_hurts_nobody():
    with Path("/dev/full").open("w") as stream:
        writer = writer_to(stream)
        for _ in range(100):
            writer.put("line")
        assert writer.flush(20)
    assert writer.dropped == 100


def test_a_reader_that_went_away_drops_lines_and_hurts_nobody():
    pipe = Pipe()
    os.close(pipe.reader)
    writer = writer_to(pipe.stream)
    writer.put("line")
    assert writer.flush(20)
    assert writer.dropped == 1


def test_what_closes_or_replaces_the_stream_does_not_silence_the_writer(pipe):
    writer = writer_to(pipe.stream)
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), pipe.stream.fileno())
    writer.put("still here")
    pipe.read_until("still here\n")


def test_another_file_under_the_closed_duplicates_number_gets_no_lines(pipe, tmp_path):
    writer = writer_to(pipe.stream)
    number = writer._fd
    with (tmp_path / "of-somebody-else").open("w") as other:
        os.dup2(other.fileno(), number)
        writer.put("still here")
        pipe.read_until("still here\n")
    assert (tmp_path / "of-somebody-else").read_text() == ""
    os.close(number)


def test_a_stream_that_somebody_made_non_blocking_loses_no_line(pipe):
    os.set_blocking(pipe.stream.fileno(), False)
    writer = writer_to(pipe.stream)
    for number in range(5_000):
        writer.put(f"line {number} " + "x" * 60)
    text = pipe.read_until("line 4999 ")
    assert text.count("line ") == 5_000
    assert writer.dropped == 0


def test_a_line_that_was_cut_by_an_error_does_not_swallow_the_next_one(pipe, monkeypatch):
    writer = writer_to(pipe.stream)
    write, calls = os.write, []

    def failing(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(28, "no space left on device")
        return write(fd, data[:4] if len(calls) == 1 else data)

    monkeypatch.setattr(log_writer.os, "write", failing)
    writer.put("first line")
    assert writer.flush(20)
    monkeypatch.undo()
    writer.put("second line")
    text = pipe.read_until("second line\n")
    assert text == "firs\n1 lines were dropped\nsecond line\n"


def run(code: str, **options) -> subprocess.Popen:
    prelude = """
        import os, signal, sys, threading, time
        import structlog
        from callboard.config.logging import configure
        from callboard.config.log_writer import Background
        log = structlog.get_logger("callboard.test")
        dropped = []
        configure("json", background=Background(dropped.append))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)], text=True, **options
    )


def events(code: str) -> list[str]:
    process = run(code, stderr=subprocess.PIPE)
    text = process.communicate(timeout=60)[1]
    return [line.partition('"event":"')[2].partition('"')[0] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("ending", "more"),
    [
        ("pass", []),
        ("sys.exit(3)", []),
        ("raise ValueError('no')", ["process.crashed"]),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", []),
        ("from callboard.config.last_resort import end_at_latest\nend_at_latest(0.01); time.sleep(9)", ["process.stop_overdue"]),
    ],
    ids=["normal", "exit", "crash", "sigterm", "last_resort"],
)  # fmt: skip
def test_at_the_end_of_the_process_waiting_lines_are_written(ending, more):
    code = f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
for n in range(300): log.info(f"line.{{n}}")
{ending}
"""
    assert events(code) == [f"line.{n}" for n in range(300)] + more


def test_a_forked_copy_writes_its_own_lines_and_not_those_of_its_parent():
    code = """
for n in range(300): log.info(f"line.{n}")
if os.fork() == 0:
    log.info("of.the.copy")
    os._exit(0)
os.wait()
log.info("of.the.parent")
"""
    lines = events(code)
    assert sorted(lines) == sorted([*(f"line.{n}" for n in range(300)), "of.the.copy", "of.the.parent"])


@pytest.mark.parametrize("ending", ["sys.exit(0)", "time.sleep(60)", "raise ValueError"])
def test_with_a_stalled_reader_a_process_works_and_ends_on_sigterm(ending):
    code = f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for n in range(30_000): log.info("line", filler="x" * 100)
print("through", flush=True)
if os.fork() == 0:
    for n in range(100): log.info("of.the.copy")
    os._exit(0)
os.wait()
print("copied", flush=True)
{ending}
"""
    process = run(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "through\n"
        assert process.stdout.readline() == "copied\n"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
