"""Secrets at rest: what is stored cannot be used without the platform's key."""

from base64 import urlsafe_b64encode
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callboard.jobs.errors import InvalidInput

_SHORTEST_KEY: Final = 16
#: Names what the derived key is for; changing it makes everything that is stored unreadable.
_PURPOSE: Final = b"callboard stored secrets v1"


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
