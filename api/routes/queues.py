"""Queues: list, show, pause, resume."""

from fastapi import APIRouter, Response

from api.auth import Operator, Viewer
from api.openapi import guarded
from api.schemas import Page, QueueObject, page_of, reply
from jobs.errors import NotFound

router = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", response_model=Page[QueueObject], responses=guarded())
def list_queues(caller: Viewer) -> Response:
    """All queues, by name."""
    queues = [queue for queue in caller.platform.queues.every() if caller.sees(queue.name)]
    return reply(page_of(QueueObject, queues))


@router.get("/{queue}", response_model=QueueObject, responses=guarded("NOT_FOUND"))
def show_queue(queue: str, caller: Viewer) -> Response:
    """One queue."""
    caller.check_queue(_name(queue))
    return reply(QueueObject.model_validate(caller.platform.queues.get(queue)))


@router.post("/{queue}/pause", response_model=QueueObject, responses=guarded("NOT_FOUND"))
def pause_queue(queue: str, caller: Operator) -> Response:
    """Let nothing of this queue start; what runs goes on."""
    caller.check_queue(_name(queue))
    return reply(QueueObject.model_validate(caller.platform.queues.pause(queue)))


@router.post("/{queue}/resume", response_model=QueueObject, responses=guarded("NOT_FOUND"))
def resume_queue(queue: str, caller: Operator) -> Response:
    """Let the queue's jobs start again."""
    caller.check_queue(_name(queue))
    return reply(QueueObject.model_validate(caller.platform.queues.resume(queue)))


def _name(queue: str) -> str:
    if "\0" in queue:
        raise NotFound("no queue has a NUL character in its name")
    return queue
