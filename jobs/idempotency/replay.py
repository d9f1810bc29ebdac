"""One answer for one request, however often it is sent: what an Idempotency-Key stands for."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from callboard.jobs.errors import Conflict, InvalidInput
from callboard.jobs.idempotency import repository
from callboard.jobs.postgres.database import Database

LONGEST: Final = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under a key. `owner`: whose key it is; `fingerprint` tells it from any other request."""

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, now or the first time."""

    content: dict[str, Any]
    replayed: bool


def asked(owner: str, key: str, method: str, path: str, body: Any) -> Asked:
    """The request as it is known by; `body` is the parsed JSON, however it was written. Raises InvalidInput."""
    if not 1 <= len(key) <= LONGEST or not (key.isascii() and key.isprintable()):
        reason = f"1 to {LONGEST} printable ASCII characters are expected"
        raise InvalidInput(f"Idempotency-Key: {reason}", fields={"Idempotency-Key": reason})
    canonical = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"))
    return Asked(owner, key, sha256(canonical.encode()).hexdigest())


class Idempotency:
    """Answers kept for 24 hours, under the keys of those who asked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def once(self, asked: Asked, work: Callable[[Connection], dict[str, Any]]) -> Answer:
        """Do the work in one transaction with the key, or give the answer that it had the first time.

        Two at once: one works, the other waits and gets the same. When the work raises, or the process dies, neither the
        key nor the work is there. Raises Conflict when the key was used for another request.
        """
        answer = self._database.retrying(lambda connection: _once(connection, asked, work))
        if answer.replayed:
            log.info("idempotency.replayed", owner=asked.owner)
        return answer


def _once(connection: Connection, asked: Asked, work: Callable[[Connection], dict[str, Any]]) -> Answer:
    kept = repository.take(connection, asked.owner, asked.key, asked.fingerprint)
    if kept is None:
        content = work(connection)
        repository.keep(connection, asked.owner, asked.key, content)
        return Answer(content, replayed=False)
    if kept.fingerprint != asked.fingerprint:
        raise Conflict(
            "this Idempotency-Key was used for another request; send the same request, or take another key"
        )
    return Answer(kept.answer, replayed=True)
