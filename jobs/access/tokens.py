"""The text of an API key: make, parse, compare and mask it. The stored digest cannot be used as a key."""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Final

from callboard.jobs.errors import Unauthorized

_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 12
_API_KEY: Final = re.compile(r"(cb_[a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_SHOWN_CHARACTERS: Final = 4
#: What a digest is compared with when there is no key. It has the length of a digest and equals none.
NO_DIGEST: Final = "-" * 64


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """A new API key.

    token:  the whole text. It is shown once and never stored.
    prefix: the public part, by which the row is found.
    digest: SHA-256 of the secret part, in hex.
    """

    token: str = field(repr=False)
    prefix: str
    digest: str


def new_api_key() -> ApiKeySecret:
    """Make a key: `cb_<12 characters>_<43 characters>`. The second part has 256 random bits."""
    prefix = "cb_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    return ApiKeySecret(f"{prefix}_{secret}", prefix, _digest(secret))


def parse_api_key(token: str) -> tuple[str, str]:
    """Return the prefix and the digest of a key that a caller sent. Unauthorized if it cannot be a key."""
    match = _API_KEY.fullmatch(token)
    if match is None:
        raise Unauthorized("not an API key (cb_<12 characters>_<43 characters> is expected)")
    return match[1], _digest(match[2])


def same_digest(a: str, b: str) -> bool:
    """Whether two digests are equal. The time it takes does not depend on where they differ."""
    return hmac.compare_digest(a.encode(), b.encode())


def mask(text: str) -> str:
    """Return a secret as it may be shown: `****`, and its last four characters if it has at least 16."""
    return "****" + text[-_SHOWN_CHARACTERS:] if len(text) >= _SHOWN_CHARACTERS * 4 else "****"


def _digest(secret: str) -> str:
    # A plain hash is enough: a secret of 256 random bits cannot be guessed.
    return hashlib.sha256(secret.encode()).hexdigest()
