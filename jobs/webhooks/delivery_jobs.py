"""The job that a webhook delivery becomes."""

from typing import Any
from uuid import UUID

from callboard.jobs.definitions.catalogue import Catalogue, Versions
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import NotStorable
from callboard.jobs.model.derived_keys import unique_key
from callboard.jobs.model.job import Source
from callboard.jobs.model.new_job import NewJob, with_delivery
from callboard.jobs.model.request import JobRequest
from callboard.jobs.webhooks.payload import Aside, Payload
from callboard.jobs.webhooks.schemes.scheme import Verified


class DeliveryJobs:
    """Makes the jobs of deliveries. A value that arguments cannot hold is no reason to refuse a delivery."""

    def __init__(self, enqueue: Enqueue, catalogue: Catalogue) -> None:
        self._enqueue = enqueue
        self._catalogue = catalogue

    def make(
        self,
        name: str,
        verified: Verified,
        payload: Payload,
        delivery_id: UUID,
        body_sha256: str,
        request_id: str | None,
    ) -> tuple[NewJob, Aside | None]:
        """Return the job, and why the raw body must be kept; None when `payload` has all of it.

        name: of the source's job. Raises InvalidArguments when the job does not accept the payload.
        """
        versions = self._catalogue.find(name)
        source = Source("webhook", str(delivery_id), request_id)
        kwargs = {"event": verified.event, "delivery_id": verified.external_id, "payload": payload.value}
        if not payload.is_unreadable:
            # A delivery is accepted even if no worker has published the job yet: a later worker can run it.
            request = JobRequest(name=name, kwargs=kwargs, unchecked=not versions)
            try:
                job = self._enqueue.check_job(request, source)
            except NotStorable as error:
                payload = Payload.unreadable(error.message)
        if payload.is_unreadable:
            job = self._enqueue.check_job(_without_payload(name, kwargs, versions, body_sha256), source)
        return (job if payload.aside is None else with_delivery(job, delivery_id)), payload.aside


def _without_payload(name: str, kwargs: dict[str, Any], versions: Versions, body_sha256: str) -> JobRequest:
    """Return the request for a job that reads the body. It is not checked: the sender cannot help it.

    If the job's unique key is made of the payload, it is made of the body's digest: a missing payload does
    not make two deliveries alike.
    """
    rule = versions[0].type.unique if versions else None
    key = unique_key(name, f"body=sha256:{body_sha256}") if rule and "payload" in rule.by else None
    return JobRequest(name=name, kwargs={**kwargs, "payload": None}, unchecked=True, unique_key=key)
