"""Who am I."""

from fastapi import APIRouter, Response

from api.auth import Viewer
from api.openapi import guarded
from api.schemas import Me, reply

router = APIRouter(prefix="/v1/me", tags=["self"])


@router.get("", response_model=Me, responses=guarded())
async def show_me(caller: Viewer) -> Response:
    """The key that asks: its name, role and queue."""
    return reply(Me.model_validate(caller.key))
