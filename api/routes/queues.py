"""Queues: list, show, pause, resume."""

from fastapi import APIRouter, Response

from api.auth import Operator, Viewer, check_queue, sees_queue
from api.door import Api
from api.openapi import guarded
from api.schemas import Page, QueueObject, page_of, reply
from jobs.errors import NotFound

router = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", response_model=Page[QueueObject], responses=guarded())
def list_queues(key: Viewer, door: Api) -> Response:
    """All queues, by name."""
    queues = [queue for queue in door.platform.queues.every() if sees_queue(key, queue.name)]
    return reply(page_of(QueueObject, queues))


@router.get("/{queue}", response_model=QueueObject, responses=guarded("NOT_FOUND"))
def show_queue(queue: str, key: Viewer, door: Api) -> Response:
    """One queue."""
    check_queue(key, _name(queue))
    return reply(QueueObject.model_validate(door.platform.queues.get(queue)))


@router.post("/{queue}/pause", response_model=QueueObject, responses=guarded("NOT_FOUND"))
def pause_queue(queue: str, key: Operator, door: Api) -> Response:
    """Let nothing of this queue start; what runs goes on."""
    check_queue(key, _name(queue))
    return reply(QueueObject.model_validate(door.platform.queues.pause(queue)))


@router.post("/{queue}/resume", response_model=QueueObject, responses=guarded("NOT_FOUND"))
def resume_queue(queue: str, key: Operator, door: Api) -> Response:
    """Let the queue's jobs start again."""
    check_queue(key, _name(queue))
    return reply(QueueObject.model_validate(door.platform.queues.resume(queue)))


def _name(queue: str) -> str:
    if "\0" in queue:
        raise NotFound("no queue has a NUL character in its name")
    return queue
