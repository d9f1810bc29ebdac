"""Keys for HTTP, and how secrets are shown and compared: what is stored cannot be used without the caller's key."""

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
_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """A new key for HTTP. `token` is shown once and never kept; `prefix` finds the row, `digest` proves the rest."""

    token: str = field(repr=False)
    prefix: str
    digest: str


def new_api_key() -> ApiKeySecret:
    """Make a key: `cb_<12 characters>_<43 characters>`, 256 bits of chance in the second part."""
    prefix = "cb_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    return ApiKeySecret(f"{prefix}_{secret}", prefix, _digest(secret))


def parse_api_key(token: str) -> tuple[str, str]:
    """The (prefix, digest) of a key that somebody showed; Unauthorized when it cannot be one."""
    match = _API_KEY.fullmatch(token)
    if match is None:
        raise Unauthorized("not an API key (cb_<12 characters>_<43 characters> is expected)")
    return match[1], _digest(match[2])


def same_digest(a: str, b: str) -> bool:
    """Whether two digests are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(a.encode(), b.encode())


def mask(text: str) -> str:
    """A secret as it may be shown: its last four characters when it is long enough to spare them."""
    return "****" + text[-_SHOWN:] if len(text) >= _SHOWN * 4 else "****"


def _digest(secret: str) -> str:
    # A plain hash is enough: the secret is 256 random bits, there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
