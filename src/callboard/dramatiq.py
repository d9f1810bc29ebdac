"""For programs written for Dramatiq: the broker that turns `.send()` into durable jobs."""

from callboard.jobs.dramatiq.broker import CallboardBroker

__all__ = ["CallboardBroker"]
