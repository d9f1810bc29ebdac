"""What every webhook scheme promises, and the checks they share. All of them fail closed."""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from callboard.jobs.errors import InvalidInput, Unauthorized

#: The longest delivery id and event name that are kept.
LONGEST_ID: Final = 200
_LONGEST_HEADER: Final = 2_000


@dataclass(frozen=True, slots=True)
class Verified:
    """A request whose sender is proven.

    external_id: the sender's own id of the delivery, the same when it is sent again.
    event:       what happened, in the sender's words; "" when it does not say.
    handshake:   the sender only tries the address; nothing happened.
    """

    external_id: str
    event: str
    handshake: bool = False


class Scheme(Protocol):
    """One provider's way of signing. Header names are lower case; `body` is what came over the wire."""

    @property
    def name(self) -> str:
        """The word a source names it by."""
        ...

    def verify(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> Verified:
        """Say what was delivered, once `authenticate` has passed; InvalidInput when it has no usable id."""
        ...

    def authenticate(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: datetime
    ) -> None:
        """Pass when one of the secrets signed this body lately enough; else Unauthorized names the header."""
        ...

    def new_secret(self) -> str:
        """Make a secret to give to the sender."""
        ...

    def check_secret(self, text: str) -> None:
        """Pass when the text can be a secret of this scheme; else InvalidInput, which never shows it."""
        ...


def header(headers: Mapping[str, str], name: str) -> str:
    """Read a header that the proof needs; Unauthorized when it is missing, too long or not ASCII."""
    value = headers.get(name, "").strip(" \t")
    if not value:
        raise Unauthorized(f"the {name} header is missing")
    if len(value) > _LONGEST_HEADER or not value.isascii():
        raise Unauthorized(f"the {name} header is not well formed")
    return value


def label(headers: Mapping[str, str], name: str) -> str:
    """Read a header that names something: up to 200 printable characters, "" when absent, else InvalidInput."""
    value = headers.get(name, "").strip(" \t")
    if len(value) > LONGEST_ID or not value.isprintable() or not value.isascii():
        raise InvalidInput(
            f"the {name} header is longer than {LONGEST_ID} characters or not plain text",
            fields={name: f"at most {LONGEST_ID} printable ASCII characters"},
        )
    return value


def delivery_id(headers: Mapping[str, str], name: str) -> str:
    """Read the header that identifies the delivery; InvalidInput when it is missing or unusable."""
    value = label(headers, name)
    if not value:
        raise InvalidInput(f"the {name} header is missing", fields={name: "missing"})
    return value


def usable_keys(secrets: Sequence[str], read: Callable[[str], bytes]) -> list[bytes]:
    """The keys behind the secrets. One that cannot be read authenticates nobody and hinders no other."""
    keys = []
    for secret in secrets:
        try:
            keys.append(read(secret))
        except InvalidInput:
            continue
    return keys


def any_equal(expected: Iterable[str], given: Iterable[str]) -> bool:
    """Whether some given signature is an expected one, in time that does not depend on which or how nearly."""
    candidates = [text.encode() for text in given]
    found = False
    for signature in expected:
        for candidate in candidates:
            found |= hmac.compare_digest(signature.encode(), candidate)
    return found
