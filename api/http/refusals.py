"""Refuse requests that the HTTP parser or the connection cannot accept, in the one form of errors."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

import httptools
import orjson

from callboard.jobs.model.basics.ids import new_id

#: The longest head of a request, in bytes, and the highest number of its headers.
MAX_HEAD: Final = 64 * 1024
MAX_HEADERS: Final = 200

_REQUEST_LINE: Final = re.compile(
    rb"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) (?:[^ \r\n]+ (?:HTTP/(?P<version>\d+\.\d+)\r\n)?)?"
)
#: RFC 3986, 3.2.2, without the comma, which only doubled headers have.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\])(?::(\d{0,5}))?"
)
_MAX_PORT: Final = 65_535
_VERSIONS: Final = ("1.0", "1.1")


class Refusal(NamedTuple):
    """The answer to a request that is not passed to the app. The connection is closed after it."""

    status: int
    code: str
    message: str

    def encode(self) -> bytes:
        """Return the whole response, with a new request id."""
        request_id = str(new_id())
        error = {"code": self.code, "message": self.message, "request_id": request_id}
        content = orjson.dumps({"error": error})
        retry = "retry-after: 1\r\n" if self.status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
            f"x-request-id: {request_id}\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
            f"{retry}connection: close\r\n\r\n"
        )
        return head.encode() + content


class Refused(Exception):
    """A callback of the parser refuses the request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


HEAD_TOO_LARGE: Final = Refusal(
    431, "HEADERS_TOO_LARGE", f"the request's head has more than {MAX_HEAD:,} bytes or {MAX_HEADERS} headers"
)
HEAD_TOO_SLOW: Final = Refusal(408, "TIMEOUT", "the request's head did not arrive in time")
BODY_TOO_SLOW: Final = Refusal(408, "TIMEOUT", "the request's body arrived too slowly")
FRAMING_TOO_LARGE: Final = Refusal(
    413, "PAYLOAD_TOO_LARGE", "the body's chunk extensions or trailers are too large"
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    503, "UNAVAILABLE", "the server has too many connections (CALLBOARD_MAX_CONNECTIONS); try again"
)
STOPPING: Final = Refusal(503, "UNAVAILABLE", "the server is stopping; try again")
_VERSION: Final = Refusal(505, "HTTP_VERSION_NOT_SUPPORTED", "the server speaks HTTP/1.1")
_METHOD: Final = Refusal(501, "NOT_IMPLEMENTED", "the server does not know this method")
_CONNECT: Final = Refusal(501, "NOT_IMPLEMENTED", "the server is not a proxy: CONNECT is not supported")
_CODING: Final = Refusal(
    501, "NOT_IMPLEMENTED", "the only transfer coding that the server knows is: Transfer-Encoding: chunked"
)
_EXPECTATION: Final = Refusal(
    417, "EXPECTATION_FAILED", "the only expectation that the server knows is: Expect: 100-continue"
)


def malformed(reason: str) -> Refusal:
    """Return the refusal of a request that is not valid HTTP/1.1."""
    return Refusal(400, "VALIDATION_ERROR", f"the request is not valid HTTP/1.1: {reason}")


def refusal_of(error: httptools.HttpParserError, start: bytes) -> Refusal:
    """Return the refusal of a request that the parser, or a callback of it, does not accept.

    start: the first bytes of the request; empty if they are not known
    """
    if isinstance(error.__context__, Refused):
        return error.__context__.refusal
    line = _REQUEST_LINE.match(start)
    if line is not None:
        if line["version"] is not None and line["version"].decode() not in _VERSIONS:
            return _VERSION
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            return _METHOD
    return malformed(str(error)[:200])


def check_head(method: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Refused if a head that the parser accepts is not one that the server can answer safely.

    Rules: RFC 9112, sections 2.3, 3.2 and 6.1. Header names are lower case.
    """
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            if version == "1.0":
                raise Refused(malformed("HTTP/1.0 has no Transfer-Encoding"))
            if value.strip().lower() != b"chunked":
                raise Refused(_CODING)
        elif name == b"expect" and value.strip().lower() != b"100-continue":
            raise Refused(_EXPECTATION)
    if version not in _VERSIONS:
        raise Refused(_VERSION)
    if method == b"CONNECT":
        raise Refused(_CONNECT)
    if len(hosts) != 1:
        if hosts:
            raise Refused(malformed("there are two Host headers"))
        if version == "1.1":
            raise Refused(malformed("the Host header is missing"))
    elif not is_host(hosts[0]):
        raise Refused(malformed("the Host header is not a host and an optional port"))


def is_host(value: bytes) -> bool:
    """Return whether a Host header is well formed."""
    match = _HOST.fullmatch(value.strip(b" \t"))
    return match is not None and int(match[1] or 0) <= _MAX_PORT
