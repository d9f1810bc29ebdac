"""Jobs that ask everywhere which job they are; copied into the working directory of the worker."""

import asyncio
import functools
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import structlog

from callboard import CallboardError, Client, RetryPolicy, RunningJob, carry, current_job, job

ONCE = RetryPolicy(max_attempts=1)
MARK: ContextVar[str] = ContextVar("MARK")
SHARED = ThreadPoolExecutor(3)
_NAP = 0.02


@functools.cache
def lazy_pool() -> ThreadPoolExecutor:
    """A pool that the first job makes, and all use."""
    return ThreadPoolExecutor(3)


@functools.cache
def lazy_thread_pool() -> ThreadPool:
    return ThreadPool(2)


def me() -> str:
    """The running job's id, or the code of the error."""
    try:
        return str(current_job().id)
    except CallboardError as error:
        return error.code


def slow_me() -> str:
    before = me()
    time.sleep(_NAP)
    return before if me() == before else f"{before} became {me()}"


async def async_me() -> str:
    before = me()
    await asyncio.sleep(_NAP)
    return before if me() == before else f"{before} became {me()}"


def in_thread(make: Callable[[Callable[[], None]], threading.Thread]) -> str:
    said: list[str] = []
    thread = make(lambda: said.append(slow_me()))
    thread.start()
    thread.join()
    return said[0]


class Overridden(threading.Thread):
    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self.work = work

    def run(self) -> None:
        self.work()


def leaked() -> list[str]:
    """What other jobs left in the context; afterwards it is ours."""
    found = [*structlog.contextvars.get_contextvars().values(), *([MARK.get()] if MARK.get("") else [])]
    MARK.set(me())
    structlog.contextvars.bind_contextvars(bound=me())
    return [str(value) for value in found]


@job
def asks_sync() -> dict[str, Any]:
    asked: dict[str, Any] = {"leaked": leaked(), "itself": me(), "another job": asks_briefly()}
    asked["thread"] = in_thread(lambda work: threading.Thread(target=work))
    asked["timer"] = in_thread(lambda work: threading.Timer(0.01, work))
    asked["subclass"] = in_thread(Overridden)
    asked["thread of a thread"] = in_thread(lambda work: Overridden(lambda: _run(Overridden(work))))
    with ThreadPoolExecutor(2) as pool:
        asked["own pool"] = pool.submit(slow_me).result()
        asked["own pool, map"] = next(iter(pool.map(lambda _: slow_me(), [0])))
    asked["shared pool"] = SHARED.submit(slow_me).result()
    asked["lazy pool"] = lazy_pool().submit(slow_me).result()
    asked["lazy pool, carried"] = lazy_pool().submit(carry(slow_me)).result()
    asked["thread pool"] = lazy_thread_pool().apply(slow_me)
    asked["thread pool, carried"] = lazy_thread_pool().apply(carry(slow_me))
    asked["loop"] = asyncio.run(asks_around())
    asked["itself again"] = me()
    return asked


def _run(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


async def asks_around() -> list[str]:
    loop = asyncio.get_running_loop()
    return [
        *await asyncio.gather(async_me(), asyncio.to_thread(slow_me), loop.create_task(async_me())),
        await loop.run_in_executor(None, slow_me),
        await loop.run_in_executor(SHARED, carry(slow_me)),
        await carry(async_me)(),
    ]


@job(queue="async")
async def asks_async() -> dict[str, Any]:
    asked: dict[str, Any] = {"leaked": leaked(), "itself": me(), "another job": await asks_briefly_async()}
    asked["loop"] = await asks_around()
    asked["shared pool"] = await asyncio.wrap_future(SHARED.submit(slow_me))
    asked["thread"] = await asyncio.to_thread(in_thread, lambda work: threading.Thread(target=work))
    asked["itself again"] = await async_me()
    return asked


@job
def asks_briefly() -> str:
    return slow_me()


@job(queue="async")
async def asks_briefly_async() -> str:
    return await async_me()


def attempts_of(held: RunningJob) -> dict[str, str]:
    """What each use of a job brings, after its end or in a copy of its process."""
    uses: dict[str, Callable[[], object]] = {
        "current_job": current_job,
        "progress": lambda: held.progress(0.9),
        "check": held.check,
        "enqueue": lambda: held.enqueue("asks_briefly"),
    }
    said = {}
    for name, use in uses.items():
        try:
            said[name] = f"no error: {use()}"
        except CallboardError as error:
            said[name] = error.code
    with Client.from_env() as client:
        said["source"] = client.enqueue("asks_briefly").source
    said["send"] = asks_briefly.enqueue().source
    return said


def report_later(held: RunningJob, path: str) -> None:
    time.sleep(1.5)
    note(path, attempts_of(held))


def note(path: str, said: dict[str, str]) -> None:
    Path(path + ".part").write_text(json.dumps(said))
    Path(path + ".part").rename(path)


@job
def leaves_a_thread(path: str) -> None:
    threading.Thread(target=report_later, args=(current_job(), path)).start()


@job
def leaves_work_in_a_pool(path: str) -> None:
    lazy_pool().submit(report_later, current_job(), path)


LEFT: set[asyncio.Task[None]] = set()


@job(queue="async")
async def leaves_a_task(path: str) -> None:
    async def later(held: RunningJob) -> None:
        await asyncio.sleep(1.5)
        said = await asyncio.to_thread(attempts_of, held)
        note(path, said)

    LEFT.add(asyncio.create_task(later(current_job())))


@job(retry=ONCE)
def forks_and_asks(path: str) -> None:
    held = current_job()
    copy = os.fork()
    if copy == 0:
        note(path, attempts_of(held))
        return
    assert os.waitpid(copy, 0)[1] == 0
    held.progress(0.5)
    assert me() == str(held.id)


@job(queue="async", retry=ONCE)
async def forks_on_the_loop(way: str) -> int:
    copy = os.fork()
    if copy == 0:
        if way == "return":
            return 0
        if way == "raise":
            sys.exit(7)
        for _ in range(20):
            # Needs nothing of the loop but that it goes on.
            await asyncio.sleep(0)
        os._exit(9)
    return await asyncio.to_thread(lambda: os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))


@job(queue="async")
async def ticks(path: str) -> None:
    """Note in which processes it ran."""
    for _ in range(10):
        with Path(path).open("a") as file:  # noqa: ASYNC230 - short
            file.write(f"{os.getpid()}\n")
        await asyncio.sleep(_NAP)
        await asyncio.sleep(0)


def in_a_copy(_: object = None) -> dict[str, str]:
    """What a process of a pool can do."""
    with Client.from_env() as client:
        return {
            "current_job": me(),
            "source": client.enqueue("asks_briefly").source,
            "send": asks_briefly.enqueue().source,
        }


@job(retry=ONCE)
def uses_processes(method: str, kind: str) -> dict[str, str]:
    context = multiprocessing.get_context(method)
    if kind == "pool":
        with context.Pool(2) as pool:
            return pool.map(in_a_copy, range(2))[1]
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(in_a_copy).result()


def guard(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("a connection", *args, **kwargs)

    return wrapper


@job
@guard
def injected(connection: str, n: int) -> list[object]:
    return [connection, n]


def number(n: int) -> Any:
    yield n


@job(retry=ONCE)
def returns_a_generator(n: int) -> Any:
    return number(n)
