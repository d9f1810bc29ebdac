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
_SECRET_KEYS: Final = frozenset(
    ["access", "api", "client", "encryption", "private", "secret", "server", "signing"]
)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# Every search takes time in proportion to the length of the text: a repetition is bounded, or the next match
# starts after its end.
#: What may be a URL, from `://` on. Only a space ends it: a pasted password may contain any other character.
_AFTER_SCHEME: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,30})?://(?P<rest>\S+)", re.IGNORECASE)
#: Addresses of the web often have an @ in their path. Their host and port are recognised.
_WEB_SCHEMES: Final = frozenset(["http", "https", "ws", "wss"])
_WEB_HOST: Final = re.compile(r"(?:[a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?[/?#]", re.IGNORECASE)
_SECRET_PARAMETER: Final = re.compile(
    r"(?P<head>[?&][^=&\s]{0,40}(?:password|passwd|pwd|secret|token|api_?key|client_key|server_key|signature)"
    r"[^=&\s]{0,40}=)[^&\s]*",
    re.IGNORECASE,
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
    """Return the text with accounts in URLs, values as in `password=...` and bearer tokens masked."""
    if not is_suspect(text):
        return text
    text = _AFTER_SCHEME.sub(_mask_url, text)
    text = _ASSIGNED.sub(rf"\g<head>{MASK}", text)
    return _SCHEME.sub(rf"\g<head>{MASK}", text)


def _mask_url(found: re.Match[str]) -> str:
    """Return a URL without its user and password, also if it is malformed, and without secret parameters.

    All before the last @ is masked: an unescaped password may contain @, / or ?.
    """
    scheme, rest = found["scheme"] or "", found["rest"]
    _, at, after = rest.rpartition("@")
    is_plain_web = scheme.lower() in _WEB_SCHEMES and "://" not in rest and _WEB_HOST.match(rest)
    if at and not is_plain_web:
        rest = f"{MASK}@{after}"
    return f"{scheme}://" + _SECRET_PARAMETER.sub(rf"\g<head>{MASK}", rest)
