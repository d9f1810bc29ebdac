"""Routes that list, show, pause, resume and limit queues."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from callboard.api.callers import Operator, Viewer
from callboard.api.http.bodies import body, request_body_schema
from callboard.api.openapi import BODY_ERRORS, guarded_responses
from callboard.api.path_parameters import QueueText
from callboard.api.schemas import Page, QueueObject, RateText, page_of, reply
from callboard.jobs.errors import InvalidInput, NotFound
from callboard.jobs.model.basics.fields import WHOLE, SchemaOf
from callboard.jobs.model.queue_limits import MOST, Limits, Rate

router = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", response_model=Page[QueueObject], responses=guarded_responses())
def list_queues(caller: Viewer) -> Response:
    """List all queues, by name. A key that is restricted to a job sees none."""
    queues = [queue for queue in caller.platform.queues.every() if caller.key.sees_queue(queue.name)]
    return reply(page_of(QueueObject, queues))


@router.get("/{queue}", response_model=QueueObject, responses=guarded_responses("NOT_FOUND"))
def show_queue(queue: QueueText, caller: Viewer) -> Response:
    """Show one queue."""
    caller.check_queue(_name(queue))
    return reply(QueueObject.model_validate(caller.platform.queues.get(queue)))


@router.post("/{queue}/pause", response_model=QueueObject, responses=guarded_responses("NOT_FOUND"))
def pause_queue(queue: QueueText, caller: Operator) -> Response:
    """Start no more jobs of this queue; running jobs continue."""
    caller.check_queue(_name(queue))
    return reply(QueueObject.model_validate(caller.platform.queues.pause(queue)))


@router.post("/{queue}/resume", response_model=QueueObject, responses=guarded_responses("NOT_FOUND"))
def resume_queue(queue: QueueText, caller: Operator) -> Response:
    """Start the jobs of a paused queue again."""
    caller.check_queue(_name(queue))
    return reply(QueueObject.model_validate(caller.platform.queues.resume(queue)))


def _rate(value: str) -> str:
    try:
        Rate.parse(value)
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return value


LimitValue = Annotated[int, Field(ge=1, le=MOST, strict=True), WHOLE]
RateValue = Annotated[str, Field(max_length=40), AfterValidator(_rate), SchemaOf(RateText)]


class NewLimits(BaseModel):
    """All limits of a queue. A field that is missing or null means no limit."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"concurrency": 10, "rate": "100/1m", "key_concurrency": 2}]},
    )

    concurrency: LimitValue | None = Field(
        default=None, description="jobs that run at the same time on all workers"
    )
    rate: RateValue | None = Field(default=None, description="jobs that start in any period of this length")
    key_concurrency: LimitValue | None = Field(default=None, description="as concurrency, for each limit key")
    key_rate: RateValue | None = Field(default=None, description="as rate, for each limit key")


@router.put(
    "/{queue}/limits",
    response_model=QueueObject,
    responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND", *BODY_ERRORS),
    openapi_extra=request_body_schema(NewLimits),
)
def limit_queue(
    queue: QueueText, caller: Operator, limits: Annotated[NewLimits, body(NewLimits)]
) -> Response:
    """Replace all limits of a queue. They apply at once to all workers. The queue may have no jobs yet."""
    caller.check_queue(_name(queue))
    new_limits = Limits.read(**limits.model_dump())
    return reply(QueueObject.model_validate(caller.platform.queues.limit(queue, new_limits)))


def _name(queue: str) -> str:
    if "\0" in queue:
        raise NotFound("no queue has a NUL character in its name")
    return queue
