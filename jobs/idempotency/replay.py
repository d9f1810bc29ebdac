"""Idempotency keys: a request that is sent again with the same key gets the same answer and does nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import structlog

from callboard.jobs.errors import Conflict, InvalidInput
from callboard.jobs.idempotency import repository
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection

_MAX_KEY_LENGTH: Final = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an Idempotency-Key.

    owner:       the id of the API key that sent it. Each owner has its own idempotency keys.
    fingerprint: SHA-256 of the request, in hex. Two different requests have different fingerprints.
    """

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request. `replayed`: it is the stored answer of an earlier request."""

    content: dict[str, Any]
    replayed: bool


def keyed_request(owner: str, key: str, method: str, path: str, body: Any) -> KeyedRequest:
    """Make a KeyedRequest. `body` is the parsed JSON, so its spacing and the order of its keys do not matter.

    Raises InvalidInput unless the key has 1 to 200 printable ASCII characters.
    """
    if not 1 <= len(key) <= _MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        reason = f"1 to {_MAX_KEY_LENGTH} printable ASCII characters are expected"
        raise InvalidInput(f"Idempotency-Key: {reason}", fields={"Idempotency-Key": reason})
    canonical = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"))
    return KeyedRequest(owner, key, sha256(canonical.encode()).hexdigest())


class Idempotency:
    """Executes a request once for each key, and stores its answer for 24 hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def once(self, request: KeyedRequest, work: Callable[[Connection], dict[str, Any]]) -> Answer:
        """Run `work` and store its answer in one transaction, or return the stored answer of the key.

        Of two requests at the same time, one runs and the other waits for its answer. When `work` raises or
        the process dies, the transaction is rolled back and the key stays free. Raises Conflict when the key
        was used for another request.
        """
        answer = self._database.retrying(lambda connection: _once(connection, request, work))
        if answer.replayed:
            log.info("idempotency.replayed", owner=request.owner)
        return answer


def _once(
    connection: Connection, request: KeyedRequest, work: Callable[[Connection], dict[str, Any]]
) -> Answer:
    stored = repository.take(connection, request.owner, request.key, request.fingerprint)
    if stored is None:
        content = work(connection)
        repository.store(connection, request.owner, request.key, content)
        return Answer(content, replayed=False)
    if stored.fingerprint != request.fingerprint:
        raise Conflict(
            "this Idempotency-Key was used for another request; send the same request or use another key"
        )
    return Answer(stored.answer, replayed=True)
