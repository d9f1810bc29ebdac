"""Who runs jobs now."""

from fastapi import APIRouter, Response

from api.auth import Viewer
from api.door import Api
from api.openapi import guarded
from api.schemas import Page, WorkerObject, page_of, reply

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", response_model=Page[WorkerObject], responses=guarded())
def list_workers(key: Viewer, door: Api) -> Response:
    """The workers that hold a lease; for a key that is confined to a queue, those that serve it."""
    workers = [
        worker
        for worker in door.platform.workers.live()
        if key.queue is None or not worker.queues or key.queue in worker.queues
    ]
    return reply(page_of(WorkerObject, workers))
