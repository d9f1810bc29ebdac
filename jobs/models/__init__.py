"""The tables, all in the Postgres schema `callboard`. Migrations are checked to equal what stands here."""

from jobs.models.base import SCHEMA, Base, in_states
from jobs.models.doors import ApiKeyRow, ScheduleRow, ScheduleTickRow, WebhookDeliveryRow, WebhookSourceRow
from jobs.models.work import JobRow, JobTypeRow, QueueRow, WorkerRow

__all__ = [
    "SCHEMA",
    "ApiKeyRow",
    "Base",
    "JobRow",
    "JobTypeRow",
    "QueueRow",
    "ScheduleRow",
    "ScheduleTickRow",
    "WebhookDeliveryRow",
    "WebhookSourceRow",
    "WorkerRow",
    "in_states",
]
