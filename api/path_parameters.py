"""The types of path parameters: plain texts that the OpenAPI document describes; the services check them."""

from typing import Annotated

from pydantic import WithJsonSchema

from callboard.jobs.model.basics.fields import Handle, QueueName, SchemaOf

UuidText = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
QueueText = Annotated[str, SchemaOf(QueueName)]
WebhookSourceText = Annotated[str, SchemaOf(Handle)]
