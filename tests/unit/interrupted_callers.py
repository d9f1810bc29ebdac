"""A program whose threads enqueue together. It interrupts some of them at random lines.

It exits with 0 if every thread that was not interrupted gets its own result.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from callboard.jobs.enqueue.batcher import Batcher

PATIENCE = 60.0
SECONDS = 1.5
ENOUGH = 100


class Strike(BaseException):
    """What comes over a thread whose job is cancelled, or over the main one with Ctrl-C."""


def double(numbers: Sequence[int]) -> tuple[list[int | BaseException], Callable[[], None]]:
    return [number * 2 for number in numbers], lambda: None


def main() -> str:
    """What went wrong; nothing when all is well."""
    batcher = Batcher("numbers", double)
    stop = threading.Event()
    right: list[int] = []
    wrong: list[object] = []

    def innocent() -> None:
        while not stop.is_set():
            try:
                told = batcher.run(8)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it must not come
                wrong.append(error)
            else:
                (right if told == 16 else wrong).append(told)

    def victim() -> None:
        while not stop.is_set():
            with suppress(Strike):
                while not stop.is_set():
                    batcher.run(4)

    victims = [threading.Thread(target=victim, daemon=True) for _ in range(3)]
    others = [threading.Thread(target=innocent, daemon=True) for _ in range(5)]
    for thread in victims + others:
        thread.start()
    end = time.monotonic() + SECONDS
    # a machine that stands still does nothing meanwhile
    while time.monotonic() < end or (len(right) < ENOUGH and time.monotonic() < end + PATIENCE):
        for thread in victims:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Strike)
            )
        time.sleep(0.0003)
    stop.set()
    for thread in others:
        thread.join(PATIENCE)
    if any(thread.is_alive() for thread in others):
        return "some wait for ever"
    if wrong:
        return f"some heard {wrong[:3]}"
    if len(right) < ENOUGH or batcher.run(6) != 12:
        return "hardly anything was done"
    return ""


if __name__ == "__main__":
    problem = main()
    print(problem or "well", flush=True)
    sys.exit(bool(problem))
