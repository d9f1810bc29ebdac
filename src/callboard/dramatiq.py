"""The broker for programs written for Dramatiq: with it, `.send()` enqueues a durable job."""

from callboard.jobs.dramatiq.broker import CallboardBroker

__all__ = ["CallboardBroker"]
