"""The route that shows the caller's own key."""

from fastapi import APIRouter, Response

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.schemas import Me, reply

router = APIRouter(prefix="/v1/me", tags=["service"])


@router.get("", response_model=Me, responses=guarded_responses())
async def show_me(caller: Viewer) -> Response:
    """Show the name, the role and the restrictions of the key that sent the request."""
    return reply(Me.model_validate(caller.key))
