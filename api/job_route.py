"""The class of routes with a job's id in their path."""

from typing import Final

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

#: The parts of paths below /v1/jobs/ that are not ids.
_NOT_IDS: Final = frozenset({"batch", "cancel", "retry", "delete"})


class JobRoute(APIRoute):
    """A route that leaves the paths of the routes for many jobs alone, such as /v1/jobs/cancel.

    Without it, GET /v1/jobs/cancel would be the job "cancel", and Allow would name GET and DELETE.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and child["path_params"].get("id") in _NOT_IDS:
            return Match.NONE, {}
        return match, child
