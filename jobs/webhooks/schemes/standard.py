"""The scheme Standard Webhooks, symmetric: `v1,` and an HMAC-SHA256 of `id.timestamp.body` in base64.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import json
import re
import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from callboard.jobs.errors import InvalidInput, Unauthorized
from callboard.jobs.webhooks.schemes.scheme import (
    LONGEST_ID,
    Verified,
    any_equal,
    header,
    label,
    usable_keys,
    without_edges,
)

TOLERANCE: Final = timedelta(minutes=5)

#: The prefixes of the three headers. Svix, whose scheme became the standard, sends its own names.
_FAMILIES: Final = ("webhook-", "svix-")
_PARTS: Final = ("id", "timestamp", "signature")
_SECONDS_FORM: Final = re.compile(r"[0-9]{1,11}")
_PREFIX: Final = "whsec_"
#: What may stand before the key. `v1,` without `whsec_` begins a signature, not a secret.
_BEFORE_KEY: Final = re.compile(r"(v1,(?=whsec_))?(whsec_)*")
#: The prefixes of the keys of the asymmetric variant.
_ASYMMETRIC: Final = ("whsk_", "whpk_", "v1a,")
#: A prefix that looks like the right one.
_LIKE_PREFIX: Final = re.compile(r"wh[-_ ]?sec", re.IGNORECASE)
#: The URL-safe alphabet is taken only behind the prefix: `sk_live_...` is no key.
_NOT_PLAIN: Final = re.compile(r"[-_]")
_URL_SAFE: Final = str.maketrans("-_", "+/")
#: The bounds of a key, in bytes. The specification says 24 to 64, but some senders use shorter or longer
#: keys.
_SHORTEST: Final = 16
_LONGEST: Final = 128
_MOST_SIGNATURES: Final = 16


def _bad_secret(reason: str) -> InvalidInput:
    expected = f"{_PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64"
    return InvalidInput(
        f"a Standard Webhooks secret is {expected}; {reason}", fields={"secret": f"{expected} is expected"}
    )


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise _bad_secret("this one is not")
    return key


def _family(headers: Mapping[str, str]) -> str:
    """Return the prefix of the header names: the first with a complete set, or else the first with any."""
    for complete in (all, any):
        for prefix in _FAMILIES:
            if complete(headers.get(prefix + part) for part in _PARTS):
                return prefix
    return _FAMILIES[0]


class StandardWebhooks:
    """Verifies and signs as the Standard Webhooks specification says. It has no handshake."""

    name: Final = "standard-webhooks"
    takes_forms: Final = False

    def verify(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> Verified:
        self.authenticate(headers, body, secrets, now)
        return Verified(label(headers, f"{_family(headers)}id"), _event(body))

    def authenticate(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> None:
        id_name, timestamp_name, signature_name = (_family(headers) + part for part in _PARTS)
        given = header(headers, signature_name).split(" ")
        timestamp = header(headers, timestamp_name)
        # The id is a part of the signed text: without it the signature cannot be checked, hence Unauthorized.
        message_id = header(headers, id_name)
        if not _SECONDS_FORM.fullmatch(timestamp):
            raise Unauthorized(f"the {timestamp_name} header is not a Unix time in whole seconds")
        if "." in message_id:
            # The specification forbids it: with a full stop, two different ids could have the same signed
            # text.
            raise Unauthorized(f"the {id_name} header has a full stop, which the specification forbids")
        expected = [_signature(key, message_id, timestamp, body) for key in usable_keys(secrets, _key)]
        if not any_equal(expected, given[:_MOST_SIGNATURES]):
            raise Unauthorized(
                f"the {signature_name} header does not match the {id_name}, the {timestamp_name} and the body"
            )
        age = now - datetime.fromtimestamp(int(timestamp), UTC)
        if abs(age) > TOLERANCE:
            where = "past" if age > TOLERANCE else "future"
            raise Unauthorized(f"the {timestamp_name} header is more than 5 minutes in the {where}")

    def sign(self, secrets: Sequence[str], message_id: str, now: datetime, body: bytes) -> dict[str, str]:
        """Return the three headers to send with this body.

        There is one signature for each secret, so that the receiver can change its secret.
        """
        timestamp = str(int(now.timestamp()))
        signatures = [_signature(_key(secret), message_id, timestamp, body) for secret in secrets]
        values = (message_id, timestamp, " ".join(signatures))
        return {_FAMILIES[0] + part: value for part, value in zip(_PARTS, values, strict=True)}

    def new_secret(self) -> str:
        return _PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()

    def clean_secret(self, text: str) -> str:
        """Return `whsec_` and the key in base64.

        A secret may be pasted as `v1,whsec_...`, without `whsec_`, without padding, or in the URL-safe
        alphabet.
        """
        pasted = without_edges(text)
        if pasted.startswith(_ASYMMETRIC):
            raise _bad_secret("this is a key of the asymmetric variant, which is not supported")
        digits = _BEFORE_KEY.sub("", pasted, count=1)
        if _LIKE_PREFIX.match(digits) or (digits == pasted and _NOT_PLAIN.search(digits)):
            raise _bad_secret(f"this one does not begin with {_PREFIX}")
        digits = digits.rstrip("=").translate(_URL_SAFE)
        if not digits:
            raise _bad_secret("this one is empty")
        try:
            key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise _bad_secret("this one is not base64: a character is missing, or is not allowed") from None
        if not _SHORTEST <= len(key) <= _LONGEST:
            raise _bad_secret(f"this one has {len(key)} bytes")
        if base64.b64encode(key).decode().rstrip("=") != digits:
            # Base64 of whole bytes has no other bits in its last character.
            raise _bad_secret("this one is not base64: its last character is wrong")
        return _PREFIX + base64.b64encode(key).decode()


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _loosely(body: bytes) -> Any:
    """Return the value of a body that is not strict JSON, such as one with NaN; None when there is none."""
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _event(body: bytes) -> str:
    """Return the `type` in the body; "" when the body is not a JSON object or the type cannot be stored."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        payload = _loosely(body)
    kind = payload.get("type") if isinstance(payload, dict) else None
    return kind if isinstance(kind, str) and len(kind) <= LONGEST_ID and kind.isprintable() else ""
