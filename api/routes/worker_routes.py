"""Who runs jobs now."""

from fastapi import APIRouter, Response

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded
from callboard.api.schemas import Page, WorkerObject, page_of, reply

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", response_model=Page[WorkerObject], responses=guarded())
def list_workers(caller: Viewer) -> Response:
    """The workers that hold a lease; for a key that is confined to a queue, those that serve it."""
    workers = [
        worker
        for worker in caller.platform.workers.live()
        if not worker.queues or any(caller.sees(queue) for queue in worker.queues)
    ]
    return reply(page_of(WorkerObject, workers))
