"""Mask secrets in settings and logs. This is the only place that does."""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

MASK: Final = "***"

#: A key with one of these words is secret (`access_token`, `X-Hub-Signature-256`).
_SECRET_WORDS: Final = frozenset(
    [
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "secrets",
        "token",
        "authorization",
        "auth",
        "cookie",
        "cookies",
        "signature",
        "credential",
        "credentials",
        "apikey",
        "bearer",
        "jwt",
        "args",
        "kwargs",
        "arguments",
    ],
)
#: A key `..._key` is secret after one of these words; `unique_key` and `idempotency_key` are not secret.
_SECRET_KEYS: Final = frozenset(["access", "api", "encryption", "private", "secret", "signing"])
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# Every repetition is bounded, so that a search takes time in proportion to the length of the text.
# `scheme://user:password@`; a pasted password may contain an unescaped @.
_URL_PASSWORD: Final = re.compile(
    r"(?P<head>[a-z][a-z0-9+.-]{0,30}://[^\s/?#:@]{0,200}:)[^\s/?#]{0,500}(?=@)", re.IGNORECASE
)
_ASSIGNED: Final = re.compile(
    r"""(?P<head>(?:password|passwd|pwd|secret|token|api_?key|secret_?key|signature)"""
    r"""\\?["']?\s{0,4}[=:]\s{0,4})"""
    r"""(?:\\?"[^"]{0,500}"|'[^']{0,500}'|[^\s&"',;)}\]]+)""",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"(?P<head>\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}", re.IGNORECASE)
#: A text that contains none of these cannot match a pattern. Most texts need only this check.
_SUSPECT: Final = ("://", "pass", "pwd", "secret", "token", "key", "signature", "bearer", "basic")


@lru_cache(maxsize=2048)
def is_secret_key(key: str) -> bool:
    """Return whether a field of this name holds a secret."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    return any(word == "key" and before in _SECRET_KEYS for before, word in pairwise(words))


def is_suspect(text: str) -> bool:
    """Return whether `mask_text` may change the text. For nearly all texts the answer is no."""
    folded = text.casefold()
    return any(word in folded for word in _SUSPECT)


def mask_text(text: str) -> str:
    """Return the text with URL passwords, values as in `password=...` and bearer tokens masked."""
    if not is_suspect(text):
        return text
    text = _URL_PASSWORD.sub(rf"\g<head>{MASK}", text)
    text = _ASSIGNED.sub(rf"\g<head>{MASK}", text)
    return _SCHEME.sub(rf"\g<head>{MASK}", text)
