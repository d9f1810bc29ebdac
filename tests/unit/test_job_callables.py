"""What can be a job: every kind of callable runs as it is, or is refused at its definition in a sentence."""

import asyncio
import contextlib
import functools
import inspect
import types
from datetime import date
from unittest.mock import AsyncMock

import dramatiq
import pytest

from callboard import job
from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.errors import InvalidInput


@pytest.fixture(autouse=True)
def broker():
    before = dramatiq.broker.global_broker
    dramatiq.set_broker(CallboardBroker(middleware=[]))
    yield dramatiq.get_broker()
    dramatiq.set_broker(before)


def guard(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def async_guard(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return await function(*args, **kwargs)

    return wrapper


def plain(n=0):
    return n


async def coroutine(n=0):
    return n


def generator(n=0):
    yield n


async def async_generator(n=0):
    yield n


class Service:
    def method(self, n=0):
        return n

    async def async_method(self, n=0):
        return n

    @staticmethod
    def static(n=0):
        return n

    @classmethod
    async def async_class_method(cls, n=0):
        return n

    preset = functools.partialmethod(async_method, 7)

    def yields(self, n=0):
        yield n


class Called:
    def __call__(self, n=0):
        return n


class CalledAsync:
    async def __call__(self, n=0):
        return n


class CalledGenerator:
    def __call__(self, n=0):
        yield n


class Proxy:
    """Claims to be a coroutine function, as proxies of C libraries do."""

    __code__ = coroutine.__code__
    __defaults__ = __kwdefaults__ = None

    @property
    def __class__(self):
        return types.FunctionType

    def __call__(self, n=0):
        return n


def marked(function):
    """What inspect.markcoroutinefunction does since Python 3.12, and asyncio's decorator did before."""
    function._is_coroutine = asyncio.coroutines._is_coroutine
    mark = getattr(inspect, "markcoroutinefunction", lambda it: it)
    return mark(function)


ON_THE_LOOP = {
    "async def": coroutine,
    "async guard around async def": async_guard(coroutine),
    "async guard around def": async_guard(plain),
    "partial of async def": functools.partial(coroutine, 1),
    "partial of a partial": functools.partial(functools.partial(coroutine), n=1),
    "async method": Service().async_method,
    "async class method": Service.async_class_method,
    "partialmethod of an async method": Service().preset,
    "partialmethod, from the class": functools.partial(Service.preset, Service()),
    "object with async __call__": CalledAsync(),
    "partial of such an object": functools.partial(CalledAsync(), 1),
    "staticmethod object": staticmethod(coroutine),
}
IN_A_THREAD = {
    "def": plain,
    "guard around def": guard(plain),
    "guard around async def": guard(coroutine),
    "two guards around async def": guard(guard(coroutine)),
    "guard around an async guard": guard(async_guard(coroutine)),
    "partial of a guard": functools.partial(guard(coroutine), 1),
    "guard around a generator": guard(generator),
    "method": Service().method,
    "static method": Service.static,
    "object with __call__": Called(),
    "cached": functools.cache(plain),
    "single dispatch": functools.singledispatch(plain),
    "lambda that calls async def": lambda: coroutine(),  # noqa: PLW0108 - the lambda is the case
    "built-in": len,
    "partial of a built-in": functools.partial(print, "x"),
    "marked": marked(lambda: coroutine()),  # noqa: PLW0108
    "guard around a marked function": guard(marked(lambda: 1)),
    "mock": AsyncMock(),
    "proxy": Proxy(),
    "types.coroutine": types.coroutine(lambda: (yield)),
    "context manager": contextlib.contextmanager(generator),
}


def declared(function, how):
    if how == "job":
        return define(job(name="the_job")(function))
    return define(dramatiq.actor(actor_name="the_job")(function))


@pytest.mark.parametrize("how", ["job", "actor"])
@pytest.mark.parametrize("kind", ON_THE_LOOP)
def test_a_callable_whose_call_makes_a_coroutine_runs_on_the_loop(kind, how):
    definition = declared(ON_THE_LOOP[kind], how)
    assert definition.is_async
    made = definition.call()
    assert inspect.iscoroutine(made)
    made.close()


@pytest.mark.parametrize("how", ["job", "actor"])
@pytest.mark.parametrize("kind", IN_A_THREAD)
def test_any_other_callable_is_called_itself_in_a_thread(kind, how):
    definition = declared(IN_A_THREAD[kind], how)
    assert not definition.is_async
    # A plain actor has Dramatiq's wrapper around what the standard library takes for a coroutine function.
    assert definition.call is IN_A_THREAD[kind]


def test_a_guard_around_a_coroutine_function_is_called():
    called = []

    def counted(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            called.append(args)
            return function(*args, **kwargs)

        return wrapper

    for definition in (declared(counted(coroutine), "job"), define(dramatiq.actor(counted(coroutine)))):
        definition.call(3).close()
    assert called == [(3,), (3,)]


def test_a_job_inside_of_a_decorator_runs_its_function():
    inner = job(coroutine)
    assert callable(guard(inner))
    assert define(inner).is_async
    assert define(inner).call is coroutine


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (generator, "is a generator"),
        (async_generator, "is a generator"),
        (functools.partial(generator, 1), "is a generator"),
        (functools.partial(async_generator, 1), "is a generator"),
        (CalledGenerator(), "is a generator"),
        (Service().yields, "is a generator"),
        (functools.cache(generator), "is a generator"),
        (functools.cache(coroutine), "caches a coroutine"),
    ],
)
@pytest.mark.parametrize("how", ["job", "actor"])
def test_a_call_that_would_not_run_the_code_is_refused(function, sentence, how):
    with pytest.raises(InvalidInput, match=f"the job 'the_job' {sentence}.*; "):
        declared(function, how)


@pytest.mark.parametrize(
    ("thing", "sentence"),
    [
        (7, "decorates a function, not 7"),
        (None.__class__, "NoneType is a class"),
        ("reports", r"given by name, such as @job\(queue='reports'\)"),
        (Service, "Service is a class"),
        (vars(Service)["async_class_method"], "classmethod has no class yet"),
        (vars(Service)["preset"], "partialmethod has no class yet"),
        (lambda: 1, r"a lambda has no name.*job\(name="),
        (functools.partial(plain, 1), r"has no name.*job\(name="),
        (Called(), r"has no name.*job\(name="),
    ],
)
def test_what_cannot_be_a_job_is_refused_with_a_remedy(thing, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        job()(thing)
    with pytest.raises(InvalidInput, match=sentence):
        job(thing)


def test_a_callable_without_a_signature_is_refused():
    with pytest.raises(InvalidInput, match="no signature; wrap it in a function"):
        define(job(name="largest")(max))


def test_a_name_that_no_enqueue_accepts_is_refused():
    with pytest.raises(InvalidInput, match="'two words' is no name for a job"):
        job(name="two words")(plain)


def test_a_job_is_not_made_a_job_again():
    once = job(plain)
    with pytest.raises(InvalidInput, match="'plain' is a job already"):
        job(once)
    with pytest.raises(InvalidInput, match="'coroutine' is a job already"):
        job(name="other")(dramatiq.actor(coroutine))


def test_one_function_may_be_two_jobs_of_different_names():
    assert [define(job(name=name)(plain)).name for name in ("first", "second")] == ["first", "second"]


def test_a_decorator_with_options_can_be_used_for_many_functions(broker):
    slow = job(queue="slow")
    assert [slow(plain).actor_name, slow(coroutine).actor_name] == ["plain", "coroutine"]


def dated(at: date, region: str = "eu"): ...


def injecting(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("a connection", *args, **kwargs)

    return wrapper


def injecting_first(function):
    @functools.wraps(function)
    def wrapper(n: int, **kwargs):
        return function(db="a connection", n=n, **kwargs)

    return wrapper


def with_db(db: str, n: int, at: date | None = None): ...


def test_a_wrapper_accepts_whatever_it_takes():
    for function in (guard(dated), injecting(with_db)):
        schema = describe(function).schema
        assert (schema["required"], schema["additionalProperties"]) == ([], True)
        assert schema["x-var-positional"]
    binder = ArgumentBinder(injecting(with_db), coerce=True)
    assert binder.bind([7], {}) == ((7,), {})
    assert binder.bind([], {"n": 7, "at": "2026-01-02"}) == ((), {"n": 7, "at": date(2026, 1, 2)})
    assert binder.bind([], {"n": "seven", "more": [1]}) == ((), {"n": "seven", "more": [1]})


def test_a_wrapper_gets_values_of_the_types_that_the_wrapped_function_names():
    binder = ArgumentBinder(guard(dated), coerce=True)
    assert binder.bind(["2026-01-02"], {"region": "us"}) == ((date(2026, 1, 2),), {"region": "us"})
    assert binder.bind([], {"at": "2026-01-02"}) == ((), {"at": date(2026, 1, 2)})
    assert binder.bind(["tomorrow"], {}) == (("tomorrow",), {})
    method = functools.partial(guard(Dated.method), Dated())
    assert ArgumentBinder(method, coerce=True).bind(["2026-01-02"], {}) == ((date(2026, 1, 2),), {})


class Dated:
    def method(self, at: date): ...


def test_a_wrappers_schema_names_the_parameters_from_which_keys_are_made():
    schema = describe(guard(dated)).schema
    assert schema["properties"] == {"at": {}, "region": {"default": "eu"}}
    assert schema["x-parameters"] == ["at", "region"]


def test_a_wrapper_with_parameters_of_its_own_has_them_checked():
    schema = describe(injecting_first(with_db)).schema
    assert schema["properties"] == {"n": {"type": "integer"}, "db": {}, "at": {"default": None}}
    assert (schema["required"], schema["x-parameters"]) == (["n"], ["n"])


def test_a_wrapper_that_declares_a_signature_has_it_checked():
    wrapper = injecting(with_db)
    wrapper.__signature__ = inspect.Signature(
        [inspect.Parameter("n", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=int)]
    )
    schema = describe(wrapper).schema
    assert (schema["properties"], schema["additionalProperties"]) == ({"n": {"type": "integer"}}, False)


def test_parameters_called_like_the_wrappers_are_not_confused_with_them():
    def odd(args: list[int], kwargs: dict[str, int], n: int): ...

    schema = describe(guard(odd)).schema
    assert schema["additionalProperties"] is True
    bound = ArgumentBinder(guard(odd), coerce=True).bind([], {"args": [1], "kwargs": {"a": 1}, "n": 2})
    assert bound == ((), {"args": [1], "kwargs": {"a": 1}, "n": 2})


def test_a_cached_function_is_checked_like_the_function():
    assert describe(functools.cache(dated)).schema == describe(dated).schema
