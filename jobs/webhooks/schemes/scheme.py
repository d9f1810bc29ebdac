"""The protocol of webhook schemes, and the checks that they share. A check that cannot be done fails."""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from callboard.jobs.errors import InvalidInput, Unauthorized

#: The longest delivery id and event name that are stored. Characters.
LONGEST_ID: Final = 200
_LONGEST_HEADER: Final = 2_000
#: Blanks, line breaks and invisible characters that a copied text often begins or ends with.
_EDGES: Final = re.compile(r"\A[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+\Z")


@dataclass(frozen=True, slots=True)
class Verified:
    """A request whose signature is valid.

    external_id: the sender's id of the delivery. It is the same when the delivery is sent again.
    event:       the sender's name of the event; "" when the request has none.
    handshake:   the sender only tests the URL. There is no event to handle.
    """

    external_id: str
    event: str
    handshake: bool = False


class Scheme(Protocol):
    """How one provider signs its requests. `body` is the raw bytes.

    Names in `headers` are lower case. The values of a header that is given more than once are joined by a
    line break, which no single value can contain.
    """

    @property
    def name(self) -> str:
        """The name of the scheme in a source."""
        ...

    @property
    def takes_forms(self) -> bool:
        """Whether the sender may send its JSON as the field `payload` of a form."""
        ...

    def verify(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> Verified:
        """Authenticate a request and return its delivery id and event.

        Raises what `authenticate` raises, and InvalidInput when a header with the delivery id or the event
        is missing or not valid.
        """
        ...

    def authenticate(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> None:
        """Raise Unauthorized, which names the header, unless one of the secrets signed this body.

        If the scheme signs a time, it must be close to `now`.
        """
        ...

    def new_secret(self) -> str:
        """Make a secret, to be configured at the sender."""
        ...

    def clean_secret(self, text: str) -> str:
        """Return a pasted secret in the form that `authenticate` takes, such as without blanks around it.

        Raises InvalidInput, which never shows the text, when it cannot be a secret of this scheme.
        """
        ...


def header(headers: Mapping[str, str], name: str) -> str:
    """Return a header that the signature check needs. Raises Unauthorized when it is missing or malformed."""
    value = headers.get(name, "").strip(" \t")
    if not value:
        raise Unauthorized(f"the {name} header is missing")
    if is_repeated(value):
        raise Unauthorized(f"the {name} header is given more than once")
    if len(value) > _LONGEST_HEADER or not value.isascii():
        raise Unauthorized(f"the {name} header is not well formed")
    return value


def label(headers: Mapping[str, str], name: str) -> str:
    """Return a header that has a name.

    Raises InvalidInput when it is missing, is repeated, has more than 200 characters, or any that is not
    printable ASCII.
    """
    value = headers.get(name, "").strip(" \t")
    if not value:
        raise InvalidInput(f"the {name} header is missing", fields={name: "missing"})
    if is_repeated(value):
        raise InvalidInput(f"the {name} header is given more than once", fields={name: "given twice"})
    if len(value) > LONGEST_ID or not value.isprintable() or not value.isascii():
        raise InvalidInput(
            f"the {name} header is longer than {LONGEST_ID} characters or not plain text",
            fields={name: f"at most {LONGEST_ID} printable ASCII characters"},
        )
    return value


def is_repeated(value: str) -> bool:
    """Return whether the value of a header is several values: the header was given more than once."""
    return "\n" in value


def without_edges(text: str) -> str:
    """Return a pasted text without the blanks, line breaks and invisible characters around it."""
    return _EDGES.sub("", text)


def usable_keys(secrets: Sequence[str], read: Callable[[str], bytes]) -> list[bytes]:
    """Return the keys of the secrets. A secret that `read` refuses is left out, so the others still work."""
    keys = []
    for secret in secrets:
        try:
            keys.append(read(secret))
        except InvalidInput:
            continue
    return keys


def any_equal(expected: Iterable[str], given: Iterable[str]) -> bool:
    """Whether a given signature equals an expected one. The time it takes does not depend on the answer."""
    candidates = [text.encode() for text in given]
    found = False
    for signature in expected:
        for candidate in candidates:
            found |= hmac.compare_digest(signature.encode(), candidate)
    return found
