"""The short way to the busiest routes: what a framework finds out for every request is found out once, for the app.

Whatever is not listed, and whatever does not fit exactly, goes the usual way through FastAPI's router; both ways end in the
same function, with the same checks in the same order.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, get_args, get_type_hints

from fastapi import Request, Response, params
from fastapi.routing import APIRoute, APIRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from callboard.api.http.error_responses import callboard_error
from callboard.jobs.errors import CallboardError

Handler = Callable[[Request], Awaitable[Response]]
_PARAMETER: Final = "{}"


class _Stop(NamedTuple):
    """Where a short way ends. `last`: the name of the path's last part, where that is a parameter."""

    route: APIRoute
    handle: Handler
    last: str


class ShortWay:
    """Middleware that calls some functions of some routers without asking the router."""

    def __init__(
        self, app: ASGIApp, *, routers: Sequence[APIRouter], functions: Sequence[Callable[..., Any]]
    ) -> None:
        self._app = app
        self._stops: dict[tuple[str, str], _Stop] = {}
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        for route in routes:
            if route.endpoint in functions:
                self._add(route)

    def _add(self, route: APIRoute) -> None:
        head, _, last = route.path.rpartition("/")
        name = last[1:-1] if last.startswith("{") else ""
        if "{" in head or route.dependencies:
            raise TypeError(f"there is no short way to {route.path}")
        stop = _Stop(route, handler(route.endpoint), name)
        for method in route.methods or ():
            self._stops[method, f"{head}/{_PARAMETER}" if name else route.path] = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stop = self._find(scope) if scope["type"] == "http" else None
        if stop is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = stop.route
        request = Request(scope, receive)
        try:
            response = await stop.handle(request)
        except CallboardError as error:
            response = await callboard_error(request, error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> _Stop | None:
        path, method = scope["path"], scope["method"]
        if scope.get("root_path"):
            return None
        stop = self._stops.get((method, path))
        if stop is not None:
            return None if stop.last else stop
        head, _, last = path.rpartition("/")
        stop = self._stops.get((method, f"{head}/{_PARAMETER}")) if last else None
        if stop is not None:
            scope["path_params"] = {stop.last: last}
        return stop


def handler(function: Callable[..., Any]) -> Handler:
    """A route's function as one of the request alone. Takes parameters that are the request, a part of the path, one header
    or a dependency that reads the request; TypeError for any other.
    """
    hints = get_type_hints(function, include_extras=True)
    awaited: list[tuple[str, Callable[[Request], Awaitable[Any]]]] = []
    read: list[tuple[str, Callable[[Request], Any]]] = []
    for name in inspect.signature(function).parameters:
        hint = hints[name]
        said = next(
            (one for one in get_args(hint)[1:] if isinstance(one, params.Depends | params.Header)), None
        )
        if isinstance(said, params.Depends) and said.dependency is not None:
            awaited.append((name, said.dependency))
        elif isinstance(said, params.Header) and said.alias:
            read.append((name, _header(said.alias)))
        elif hint is Request:
            read.append((name, lambda request: request))
        elif hint is str:
            read.append((name, _part(name)))
        else:
            raise TypeError(f"{function.__name__} takes {name} in a way that is not known here")

    async def handle(request: Request) -> Response:
        values = {name: await ask(request) for name, ask in awaited}
        for name, look in read:
            values[name] = look(request)
        response: Response = await function(**values)
        return response

    return handle


def _header(name: str) -> Callable[[Request], str | None]:
    return lambda request: request.headers.get(name)


def _part(name: str) -> Callable[[Request], str]:
    return lambda request: str(request.path_params[name])
