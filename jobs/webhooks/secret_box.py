"""Encryption of stored secrets: the database alone is not enough to read them."""

from base64 import urlsafe_b64encode
from functools import cache
from typing import TYPE_CHECKING, Final

from callboard.jobs.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_SHORTEST_KEY: Final = 16
#: The purpose of the derived key. If it changes, no stored secret can be decrypted any more.
_PURPOSE: Final = b"callboard stored secrets v1"


class SecretBox:
    """Encrypts text for storage (Fernet: AES-128-CBC and HMAC-SHA256) under CALLBOARD_SECRET_KEY.

    The library is loaded when it is first used: it has six MiB.
    """

    def __init__(self, key: str) -> None:
        if len(key) < _SHORTEST_KEY:
            raise InvalidInput(
                f"CALLBOARD_SECRET_KEY is shorter than {_SHORTEST_KEY} characters"
                " (make one: openssl rand -hex 32)",
                fields={"CALLBOARD_SECRET_KEY": "too short"},
            )
        # "surrogatepass": an environment variable can have bytes that are not UTF-8. They are valid in a key.
        material = key.encode("utf-8", "surrogatepass")
        # In a closure, because no attribute may show the key.
        self._fernet = cache(lambda: _fernet(material))

    def encrypt(self, text: str) -> str:
        """Encrypt a text. `decrypt` with the same key returns it."""
        return self._fernet().encrypt(text.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """Decrypt a text. Raises InvalidInput when it was encrypted with another key or was changed."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet().decrypt(stored.encode()).decode()
        except InvalidToken:
            raise InvalidInput(
                "a stored secret cannot be decrypted with this CALLBOARD_SECRET_KEY"
                " (set the key that it was encrypted with)",
                fields={"CALLBOARD_SECRET_KEY": "not the key that the stored secrets were encrypted with"},
            ) from None


def _fernet(material: bytes) -> "Fernet":
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(material)
    return Fernet(urlsafe_b64encode(derived))
