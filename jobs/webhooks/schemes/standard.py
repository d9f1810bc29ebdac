"""The scheme Standard Webhooks, symmetric: `v1,` and an HMAC-SHA256 of `id.timestamp.body` in base64.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import re
import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from callboard.jobs.errors import InvalidInput, Unauthorized
from callboard.jobs.webhooks.schemes.scheme import (
    LONGEST_ID,
    Verified,
    any_equal,
    delivery_id,
    header,
    usable_keys,
)

TOLERANCE: Final = timedelta(minutes=5)

_ID: Final = "webhook-id"
_TIMESTAMP: Final = "webhook-timestamp"
_SIGNATURE: Final = "webhook-signature"
_SECONDS_FORM: Final = re.compile(r"[0-9]{1,11}")
_PREFIX: Final = "whsec_"
#: The bounds of a key, in bytes. The specification says 24 to 64, but some senders use shorter or longer
#: keys.
_SHORTEST: Final = 16
_LONGEST: Final = 128
_MOST_SIGNATURES: Final = 16


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise InvalidInput(
            f"a Standard Webhooks secret is {_PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64"
        )
    return key


class StandardWebhooks:
    """Verifies and signs as the Standard Webhooks specification says. It has no handshake."""

    name: Final = "standard-webhooks"

    def verify(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> Verified:
        self.authenticate(headers, body, secrets, now)
        return Verified(delivery_id(headers, _ID), _event(body))

    def authenticate(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> None:
        given = header(headers, _SIGNATURE).split(" ")
        timestamp = header(headers, _TIMESTAMP)
        # The id is a part of the signed text: without it the signature cannot be checked, hence Unauthorized.
        message_id = header(headers, _ID)
        if not _SECONDS_FORM.fullmatch(timestamp):
            raise Unauthorized(f"the {_TIMESTAMP} header is not a Unix time in whole seconds")
        if "." in message_id:
            # The specification forbids it: with a full stop, two different ids could have the same signed
            # text.
            raise Unauthorized(f"the {_ID} header has a full stop, which the specification forbids")
        expected = [_signature(key, message_id, timestamp, body) for key in usable_keys(secrets, _key)]
        if not any_equal(expected, given[:_MOST_SIGNATURES]):
            raise Unauthorized(
                f"the {_SIGNATURE} header does not match the {_ID}, the {_TIMESTAMP} and the body"
            )
        age = now - datetime.fromtimestamp(int(timestamp), UTC)
        if abs(age) > TOLERANCE:
            where = "past" if age > TOLERANCE else "future"
            raise Unauthorized(f"the {_TIMESTAMP} header is more than 5 minutes in the {where}")

    def sign(self, secrets: Sequence[str], message_id: str, now: datetime, body: bytes) -> dict[str, str]:
        """Return the three headers to send with this body.

        There is one signature for each secret, so that the receiver can change its secret.
        """
        timestamp = str(int(now.timestamp()))
        signatures = [_signature(_key(secret), message_id, timestamp, body) for secret in secrets]
        return {_ID: message_id, _TIMESTAMP: timestamp, _SIGNATURE: " ".join(signatures)}

    def new_secret(self) -> str:
        return _PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()

    def check_secret(self, text: str) -> None:
        _key(text)


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _event(body: bytes) -> str:
    """Return the `type` in the body; "" when the body is not a JSON object or the type cannot be stored."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    kind = payload.get("type") if isinstance(payload, dict) else None
    return kind if isinstance(kind, str) and len(kind) <= LONGEST_ID and kind.isprintable() else ""
