"""The route that lists the live workers."""

from fastapi import APIRouter, Response

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.schemas import Page, WorkerObject, page_of, reply

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", response_model=Page[WorkerObject], responses=guarded_responses())
def list_workers(caller: Viewer) -> Response:
    """List the workers that hold a lease. A key that is restricted to a queue sees those that serve it."""
    workers = [
        worker
        for worker in caller.platform.workers.live()
        if not worker.queues or any(caller.sees(queue) for queue in worker.queues)
    ]
    return reply(page_of(WorkerObject, workers))
