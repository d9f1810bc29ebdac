"""The tables, all in the Postgres schema `callboard`. Migrations are checked to equal what stands here."""

from jobs.models.base import SCHEMA, URGENCY, Base, by_id, in_states
from jobs.models.doors import ApiKeyRow, ScheduleRow, ScheduleTickRow, WebhookDeliveryRow, WebhookSourceRow
from jobs.models.guards import CounterRow, GrantRow, IdempotencyKeyRow, UniqueHoldRow
from jobs.models.logs import JobLogRow
from jobs.models.work import JobRow, JobTypeRow, QueueRow, WorkerRow

__all__ = [
    "SCHEMA",
    "URGENCY",
    "ApiKeyRow",
    "Base",
    "CounterRow",
    "GrantRow",
    "IdempotencyKeyRow",
    "JobLogRow",
    "JobRow",
    "JobTypeRow",
    "QueueRow",
    "ScheduleRow",
    "ScheduleTickRow",
    "UniqueHoldRow",
    "WebhookDeliveryRow",
    "WebhookSourceRow",
    "WorkerRow",
    "by_id",
    "in_states",
]
