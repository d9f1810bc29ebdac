"""Routes for the busiest endpoints. FastAPI describes them in OpenAPI; a request directly calls the function.

FastAPI resolves the parameters of a function anew for each request, which takes longer than the rest of a
small endpoint. Here that is done once, when the route is made.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_args, get_type_hints

from fastapi import APIRouter, Request, Response, params
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]
Read = Callable[[Request], Any]


class DirectRoute(APIRoute):
    """A route whose function takes the request, parts of the path, headers, or dependencies that take the
    request alone.

    Raises TypeError, when it is made, for any other parameter.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.dependencies:
            raise TypeError(f"{path} has dependencies, which a direct route does not run")
        call = _bound(endpoint)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive, send)
            response = await call(request)
            await response(scope, receive, send)

        self.app = respond


def direct_router(prefix: str, tag: str) -> APIRouter:
    """Make a router whose routes are of the class `DirectRoute`.

    The app adds these routes to its own, without `include_router`. So prefix, tag and names are set here.
    """
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=DirectRoute,
        generate_unique_id_function=lambda route: route.name,
    )


def _bound(function: Callable[..., Any]) -> Endpoint:
    """Return the function as one of the request alone."""
    hints = get_type_hints(function, include_extras=True)
    awaited: list[tuple[str, Callable[[Request], Awaitable[Any]]]] = []
    read: list[tuple[str, Read]] = []
    for name in inspect.signature(function).parameters:
        hint = hints[name]
        marks = [mark for mark in get_args(hint)[1:] if isinstance(mark, params.Depends | params.Header)]
        mark = marks[0] if marks else None
        if isinstance(mark, params.Depends) and mark.dependency is not None:
            awaited.append((name, mark.dependency))
        elif isinstance(mark, params.Header) and mark.alias:
            read.append((name, _header(mark.alias)))
        elif hint is Request:
            read.append((name, lambda request: request))
        elif hint is str or get_args(hint)[:1] == (str,):
            read.append((name, _path_part(name)))
        else:
            raise TypeError(f"{function.__name__}: a direct route cannot read the parameter {name}")

    async def call(request: Request) -> Response:
        values = {name: await dependency(request) for name, dependency in awaited}
        for name, look in read:
            values[name] = look(request)
        response: Response = await function(**values)
        return response

    return call


def _header(name: str) -> Read:
    return lambda request: request.headers.get(name)


def _path_part(name: str) -> Read:
    return lambda request: request.path_params[name]
