"""Which methods a path has."""

from typing import Any, Final

from starlette.routing import Match
from starlette.types import Scope

#: The methods that routes have.
ROUTE_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: The methods that the server knows: those of RFC 9110, PATCH (RFC 5789) and the new QUERY. A path that has
#: not one of them answers 405.
KNOWN_METHODS: Final = frozenset({*ROUTE_METHODS, "HEAD", "OPTIONS", "TRACE", "QUERY"})
#: The target `*` of an OPTIONS request, which asks for the whole server.
WHOLE_SERVER: Final = "/*"


def allowed_methods(scope: Scope) -> list[str]:
    """Return the methods of the request's path, for the header Allow; an empty list if there is no such path.

    Every route with GET also has HEAD, and every path has OPTIONS. The router itself names only the methods
    of one route.
    """
    if scope["path"] == WHOLE_SERVER:
        return _with_general(list(ROUTE_METHODS))
    routes: list[Any] = scope["app"].router.routes
    found = [
        method
        for method in ROUTE_METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return _with_general(found) if found else []


def _with_general(methods: list[str]) -> list[str]:
    return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
