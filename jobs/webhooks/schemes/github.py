"""The scheme of GitHub: the header `X-Hub-Signature-256` has an HMAC-SHA256 of the body.

Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
The signature covers only the body. The headers with the delivery id and the event are not signed.
"""

import hmac
import re
import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from callboard.jobs.errors import InvalidInput, Unauthorized
from callboard.jobs.webhooks.schemes.scheme import (
    Verified,
    any_equal,
    header,
    label,
    usable_keys,
    without_edges,
)

_SIGNATURE: Final = "x-hub-signature-256"
_SIGNATURE_FORM: Final = re.compile(r"sha256=[0-9a-fA-F]{64}")
_SHORTEST: Final = 16
_LONGEST: Final = 256


def _key(secret: str) -> bytes:
    if not _SHORTEST <= len(secret) <= _LONGEST or not secret.isprintable():
        expected = f"{_SHORTEST} to {_LONGEST} printable characters"
        raise InvalidInput(f"a GitHub secret has {expected}", fields={"secret": expected})
    return secret.encode()


class GitHub:
    """Verifies GitHub's requests. The event `ping` is the handshake of a new webhook.

    GitHub sends forms unless the webhook's content type is set to `application/json`.
    """

    name: Final = "github"
    takes_forms: Final = True

    def verify(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> Verified:
        self.authenticate(headers, body, secrets, now)
        event = label(headers, "x-github-event")
        return Verified(label(headers, "x-github-delivery"), event, handshake=event == "ping")

    def authenticate(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secrets: Sequence[str],
        now: datetime,  # noqa: ARG002 - GitHub does not sign a time
    ) -> None:
        given = header(headers, _SIGNATURE)
        if not _SIGNATURE_FORM.fullmatch(given):
            raise Unauthorized(f"the {_SIGNATURE} header is not sha256=<64 hex digits>")
        expected = [_signature(key, body) for key in usable_keys(secrets, _key)]
        if not any_equal(expected, [given.lower()]):
            raise Unauthorized(f"the {_SIGNATURE} header does not match the body")

    def sign(self, secret: str, body: bytes) -> dict[str, str]:
        """Return the header that GitHub sends with this body."""
        return {_SIGNATURE: _signature(_key(secret), body)}

    def new_secret(self) -> str:
        return randomness.token_urlsafe(32)

    def clean_secret(self, text: str) -> str:
        secret = without_edges(text)
        _key(secret)
        return secret


def _signature(key: bytes, body: bytes) -> str:
    return "sha256=" + hmac.digest(key, body, "sha256").hex()
