"""Secrets at rest and keys for HTTP: what is stored cannot be used without the platform's key or the caller's."""

import hashlib
import hmac
import re
import secrets
import string
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobs.errors import InvalidInput, Unauthorized

_SHORTEST_KEY: Final = 16
#: Names what the derived key is for; changing it makes everything that is stored unreadable.
_PURPOSE: Final = b"callboard stored secrets v1"
_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 12
_API_KEY: Final = re.compile(r"(cb_[a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_SHOWN: Final = 4


class SecretBox:
    """Encrypts text for storage (Fernet: AES-128-CBC and HMAC-SHA256) under CALLBOARD_SECRET_KEY."""

    def __init__(self, key: str) -> None:
        if len(key) < _SHORTEST_KEY:
            raise InvalidInput(
                f"CALLBOARD_SECRET_KEY is shorter than {_SHORTEST_KEY} characters (make one: openssl rand -hex 32)",
                fields={"CALLBOARD_SECRET_KEY": "too short"},
            )
        # "surrogatepass": an environment may hold bytes that are no UTF-8, and they are as good a key as others.
        material = key.encode("utf-8", "surrogatepass")
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(material)
        self._fernet = Fernet(urlsafe_b64encode(derived))

    def encrypt(self, text: str) -> str:
        """Text that only `decrypt` under the same key turns back."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """The text that was encrypted; InvalidInput when it was under another key, or was altered."""
        try:
            return self._fernet.decrypt(stored.encode()).decode()
        except InvalidToken:
            raise InvalidInput(
                "a stored secret cannot be read with this CALLBOARD_SECRET_KEY (set the key it was stored under)",
                fields={"CALLBOARD_SECRET_KEY": "not the key the stored secrets were encrypted with"},
            ) from None


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
