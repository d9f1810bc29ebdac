"""Find a request's client: the TCP peer, or what trusted proxies say about the client before them.

`Forwarded` (RFC 7239) is read, and without it `X-Forwarded-For` and `X-Forwarded-Proto`. Each proxy adds an
entry at the right. The entries are read from there: the first address that is no trusted proxy is the client.
Entries further to the left came from the client itself, and may be invented.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from typing import Final, NamedTuple

from starlette.types import Scope

#: At most this many entries, and bytes of each header, are read: the last ones.
_MOST_HOPS: Final = 32
_MOST_BYTES: Final = 8 * 1024
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")')
_SEPARATOR: Final = re.compile(r"[ \t]*([;,])[ \t]*")
_ESCAPED: Final = re.compile(r"\\(.)")
#: An address with an optional port: `192.0.2.7:4711`, `2001:db8::7`, `[2001:db8::7]:4711`.
_NODE: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\w+)?|([0-9.]+)(?::\w+)?|([0-9A-Fa-f:.]+)")
_SCHEMES: Final = frozenset({"http", "https"})

Address = IPv4Address | IPv6Address


class ClientOrigin(NamedTuple):
    """The client's address, and the scheme of its request; each as it was without proxies.

    address: an IP address as text; empty when the peer has none, as on a Unix socket.
    """

    address: str
    scheme: str


class _Hop(NamedTuple):
    """What a proxy says about the request that it received; None: not given, or malformed."""

    address: Address | None
    scheme: str | None


class TrustedProxies:
    """The proxies whose forwarding headers are believed: addresses and networks, such as `10.0.0.0/8`."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = [ip_network(network) for network in networks]

    def origin(self, scope: Scope) -> ClientOrigin:
        """Return the client of a request. The headers of a peer that is not trusted are ignored."""
        client = scope.get("client")
        origin = ClientOrigin(client[0] if client else "", scope.get("scheme", "http"))
        if not self._networks:
            return origin
        peer = _address(origin.address)
        if peer is None or not self._trusts(peer):
            return origin
        origin = origin._replace(address=str(peer))
        for hop in islice(_hops(scope["headers"]), _MOST_HOPS):
            if hop.address is None:
                break
            origin = ClientOrigin(str(hop.address), hop.scheme or origin.scheme)
            if not self._trusts(hop.address):
                break
        return origin

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _hops(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[_Hop]:
    """Yield the entries of the forwarding headers, the nearest proxy's first."""
    values: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"):
            values.setdefault(name, []).append(value[-_MOST_BYTES:].decode("latin-1"))
    if b"forwarded" in values:
        for line in reversed(values[b"forwarded"]):
            yield from reversed(_elements(line))
        return
    addresses = _items(values.get(b"x-forwarded-for", []))
    schemes = _items(values.get(b"x-forwarded-proto", []))
    for place, address in enumerate(addresses):
        # Many proxies replace the scheme instead of adding to it: then one scheme stands for all.
        scheme = schemes[min(place, len(schemes) - 1)] if schemes else None
        yield _Hop(_node(address), _scheme(scheme))


def _items(lines: list[str]) -> list[str]:
    return [item.strip() for line in reversed(lines) for item in reversed(line.split(","))]


def _elements(line: str) -> list[_Hop]:
    """Return the elements of a `Forwarded` header.

    Of a malformed line, only the element after the last comma counts: a client can send an open quote, to
    which a proxy adds its element.
    """
    hops = _parsed(line)
    if hops is None:
        hops = [_Hop(None, None), *(_parsed(line.rpartition(",")[2]) or ())]
    return hops


def _parsed(line: str) -> list[_Hop] | None:
    """Return the elements of a well-formed line; None when it is malformed."""
    elements: list[dict[str, str]] = [{}]
    place, line = 0, line.strip(" \t")
    while match := _PAIR.match(line, place):
        name, plain, quoted = match.groups()
        elements[-1].setdefault(name.lower(), plain or _ESCAPED.sub(r"\1", quoted))
        place = match.end()
        if place == len(line):
            return [_Hop(_node(one.get("for")), _scheme(one.get("proto"))) for one in elements]
        separator = _SEPARATOR.match(line, place)
        if separator is None:
            return None
        if separator[1] == ",":
            elements.append({})
        place = separator.end()
    return None


def _node(text: str | None) -> Address | None:
    found = _NODE.fullmatch(text or "")
    return None if found is None else _address(found[1] or found[2] or found[3])


def _address(text: str) -> Address | None:
    """Return an IP address, an IPv4 address also if it is written as an IPv6 one; None if it is none."""
    try:
        read = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return read.ipv4_mapped or read if isinstance(read, IPv6Address) else read


def _scheme(text: str | None) -> str | None:
    lowered = (text or "").lower()
    return lowered if lowered in _SCHEMES else None
