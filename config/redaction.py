"""What must not be read by chance is masked here, and only here: settings and logs both come through."""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

MASK: Final = "***"

#: Words that make a key secret wherever they stand in it (`access_token`, `X-Hub-Signature-256`).
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
#: What a `..._key` must be for to be secret; `unique_key` and `idempotency_key` are not.
_SECRET_KEYS: Final = frozenset(["access", "api", "encryption", "private", "secret", "signing"])
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# Every repetition is bounded: a text of any kind costs time in proportion to its length.
# `scheme://user:password@`; the password may hold an unescaped @, as people paste it
_URL_PASSWORD: Final = re.compile(
    r"(?P<head>[a-z][a-z0-9+.-]{0,30}://[^\s/?#:@]{0,200}:)[^\s/?#]{0,500}(?=@)", re.IGNORECASE
)
_ASSIGNED: Final = re.compile(
    r"""(?P<head>(?:password|passwd|pwd|secret|token|api_?key|secret_?key|signature)\\?["']?\s{0,4}[=:]\s{0,4})"""
    r"""(?:\\?"[^"]{0,500}"|'[^']{0,500}'|[^\s&"',;)}\]]+)""",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"(?P<head>\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}", re.IGNORECASE)
#: What a text must hold for one of the patterns to match: most texts are done after this one look.
_SUSPECT: Final = ("://", "pass", "pwd", "secret", "token", "key", "signature", "bearer", "basic")


@lru_cache(maxsize=2048)
def is_secret_key(key: str) -> bool:
    """Whether a field of this name holds what must not be shown."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    return any(word == "key" and before in _SECRET_KEYS for before, word in pairwise(words))


def is_suspect(text: str) -> bool:
    """Whether `mask_text` may have something to do with the text; nearly always not."""
    folded = text.casefold()
    return any(word in folded for word in _SUSPECT)


def mask_text(text: str) -> str:
    """The text without the passwords of URLs, without `password=...` and without bearer tokens."""
    if not is_suspect(text):
        return text
    text = _URL_PASSWORD.sub(rf"\g<head>{MASK}", text)
    text = _ASSIGNED.sub(rf"\g<head>{MASK}", text)
    return _SCHEME.sub(rf"\g<head>{MASK}", text)
