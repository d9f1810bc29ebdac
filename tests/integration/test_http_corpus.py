"""Requests by raw sockets: what is valid is answered, what is not is refused, and no body becomes a request."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from callboard.api.http.server import Server
from tests.integration.api_client import api_on_a_port
from tests.raw_http import Answer, ask, raw

HOST = b"Host: x\r\n"
JOB = json.dumps({"name": "build_report", "kwargs": {"account_id": 1}}).encode()
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"
)


@dataclass(frozen=True)
class Door:
    """A server, and the header lines that an operator sends."""

    server: Server
    key: bytes

    def post(self, body: bytes, *headers: bytes, path: bytes = b"/v1/jobs") -> bytes:
        lines = [b"POST " + path + b" HTTP/1.1", HOST.strip(), self.key, b"Content-Type: application/json"]
        return b"\r\n".join([*lines, *(line.strip(b"\r\n") for line in headers if line), b"", body])

    def sized(self, body: bytes, *headers: bytes, path: bytes = b"/v1/jobs") -> bytes:
        return self.post(body, b"Content-Length: %d" % len(body), *headers, path=path)

    def jobs(self) -> int:
        answer = self.get(b"/v1/jobs?limit=200")
        return len(json.loads(answer.body)["items"])

    def get(self, path: bytes) -> Answer:
        return ask(self.server, b"GET " + path + b" HTTP/1.1\r\n" + HOST + self.key + b"\r\n\r\n")


@pytest.fixture
def door(platform) -> Iterator[Door]:
    with api_on_a_port(platform, max_body=100_000) as (api, server):
        yield Door(server, b"Authorization: " + api.operator._headers["Authorization"].encode())


@pytest.mark.parametrize("offer", [OFFER, WEBSOCKET, OFFER.replace(b"h2c", b"TLS/1.0, foo/2")])
def test_an_offer_to_change_the_protocol_is_ignored_and_the_body_is_read(door, offer):
    with raw(door.server) as connection:
        for _ in range(3):
            connection.send(door.sized(JOB, offer))
            assert connection.answer().status == 201
        connection.send(
            door.post(b"%x\r\n%s\r\n0\r\n\r\n" % (len(JOB), JOB), b"Transfer-Encoding: chunked", offer)
        )
        assert connection.answer().status == 201
        connection.send(b"GET /v1/me HTTP/1.1\r\n" + HOST + door.key + b"\r\n" + offer + b"\r\n")
        assert connection.answer().status == 200
        connection.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert connection.answer().status == 200
    assert door.jobs() == 4


@pytest.mark.parametrize("offer", [b"", OFFER, WEBSOCKET])
def test_a_body_that_comes_later_is_never_read_as_a_request(door, offer):
    inner = door.sized(JOB)
    with raw(door.server) as connection:
        connection.send(door.sized(b"x" * len(inner), offer)[: -len(inner)])
        connection.send(inner)
        # the body is not JSON
        assert connection.answer().status == 400
        connection.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert connection.answer().status == 200
    assert door.jobs() == 0


def test_the_body_of_a_refused_request_is_never_read_as_a_request(door):
    inner = door.sized(JOB)
    for outer in (
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(inner),
        b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(inner),
        b"PUT /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(inner),
        b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(inner),
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Expect: other\r\nContent-Length: %d\r\n\r\n" % len(inner),
    ):
        with raw(door.server) as connection:
            connection.send(outer + inner)
            assert connection.answer().status >= 400
    assert door.jobs() == 0


HEAD = b"GET /healthz HTTP/1.1\r\n"
BODY = b"POST /v1/jobs HTTP/1.1\r\n" + HOST
REFUSED = {
    "no Host": (HEAD + b"\r\n", 400),
    "two Hosts": (HEAD + HOST + HOST + b"\r\n", 400),
    "an empty Host": (HEAD + b"Host: \r\n\r\n", 400),
    "a Host with a path": (HEAD + b"Host: x/y\r\n\r\n", 400),
    "a Host with a user": (HEAD + b"Host: a@x\r\n\r\n", 400),
    "a Host with a space": (HEAD + b"Host: x y\r\n\r\n", 400),
    "a Host with a wrong port": (HEAD + b"Host: x:y\r\n\r\n", 400),
    "a Host with a port that is too high": (HEAD + b"Host: x:65536\r\n\r\n", 400),
    "a Host with a broken IPv6 address": (HEAD + b"Host: [::1\r\n\r\n", 400),
    "a Host with bytes outside ASCII": (HEAD + b"Host: \xe9\r\n\r\n", 400),
    "no Host in absolute form": (b"GET http://x/healthz HTTP/1.1\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (b"GET /healthz HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "HTTP/1.2": (b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "HTTP/0.9 by name": (b"GET /healthz HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "HTTP/11": (b"GET /healthz HTTP/11\r\n" + HOST + b"\r\n", 400),
    "no version": (b"GET /healthz\r\n\r\n", 505),
    "an unknown method": (b"BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "an unknown method with a hyphen": (b"M-BREW /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a method in lower case": (b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a method of WebDAV": (b"PROPFIND /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a hello of TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),
    "a target with a space": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target without a slash": (b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target with a fragment": (b"GET /healthz#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target outside ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a head of 100 kB": (HEAD + HOST + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n", 431),
    "a target of 100 kB": (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "a head of 300 headers": (HEAD + HOST + b"X-One: 1\r\n" * 300 + b"\r\n", 431),
    "a head without end": (HEAD + HOST + b"X-Long: " + b"x" * 70_000, 431),
    "a head whose headers have no end": (HEAD + HOST + b"X-Long: xxxxxxxxxxxxxxxxxxxx\r\n" * 4_000, 431),
    "a line end without CR": (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
    "a CR without LF": (HEAD + b"Host: x\rX-Y: z\r\n\r\n", 400),
    "a NUL": (HEAD + HOST + b"X-Y: a\0b\r\n\r\n", 400),
    "a folded header": (HEAD + HOST + b"X-Y: a\r\n b\r\n\r\n", 400),
    "a space before a colon": (HEAD + HOST + b"X-Y : a\r\n\r\n", 400),
    "a header without a name": (HEAD + HOST + b": a\r\n\r\n", 400),
    "a header without a colon": (HEAD + HOST + b"X-Y\r\n\r\n", 400),
    "a space before the first header": (HEAD + b" Host: x\r\n\r\n", 400),
    "length, then chunked": (BODY + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, then length": (BODY + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (BODY + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "the same length twice": (BODY + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "a list of lengths": (BODY + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "a negative length": (BODY + b"Content-Length: -3\r\n\r\nabc", 400),
    "a length with a plus": (BODY + b"Content-Length: +3\r\n\r\nabc", 400),
    "a length in hex": (BODY + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "a length beyond 64 bits": (BODY + b"Content-Length: 99999999999999999999\r\n\r\nabc", 400),
    "gzip as a transfer coding": (BODY + b"Transfer-Encoding: gzip\r\n\r\nabc", 501),
    "gzip, then chunked": (BODY + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "gzip and chunked in two headers": (
        BODY + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501,
    ),
    "identity": (BODY + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "xchunked": (BODY + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (BODY + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked that is not last": (BODY + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (
        b"POST /v1/jobs HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "an unknown expectation": (BODY + b"Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc", 417),
}  # fmt: skip
CODES = {
    400: "VALIDATION_ERROR", 417: "EXPECTATION_FAILED", 431: "HEADERS_TOO_LARGE", 501: "NOT_IMPLEMENTED",
    505: "HTTP_VERSION_NOT_SUPPORTED",
}  # fmt: skip


def test_a_request_that_is_not_valid_is_refused_in_the_form_of_errors(door):
    answers = {}
    for name, (request, _) in REFUSED.items():
        with raw(door.server) as connection:
            connection.send(request)
            answer = connection.answer()
            answers[name] = answer.status
            assert answer.error["code"] == CODES[answer.status], name
            if "WebDAV" not in name:
                assert answer.headers["connection"] == "close", name
                connection.send(HEAD + HOST + b"\r\n")
                assert connection.closed(), name
    assert answers == {name: status for name, (_, status) in REFUSED.items()}


ACCEPTED = {
    "one Host": HEAD + HOST + b"\r\n",
    "a Host with a port": HEAD + b"Host: x.example:8787\r\n\r\n",
    "a Host with an IPv6 address": HEAD + b"Host: [::1]:8787\r\n\r\n",
    "a Host with blanks around": HEAD + b"Host: \t x \t \r\n\r\n",
    "HTTP/1.0 without a Host": b"GET /healthz HTTP/1.0\r\n\r\n",
    "absolute form": b"GET http://x/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form with https": b"GET HTTPS://x:1/healthz?a HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty lines before the request": b"\r\n\r\n" + HEAD + HOST + b"\r\n",
    "a percent-encoded letter": b"GET /%68ealthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "headers outside ASCII": HEAD + HOST + b"X-Y: \xc3\xa9\xff\r\n\r\n",
    "a body that nothing reads": HEAD + HOST + b"Content-Length: 3\r\n\r\nabc",
}


def test_a_valid_request_is_answered(door):
    answers = {name: ask(door.server, request).status for name, request in ACCEPTED.items()}
    assert answers == dict.fromkeys(ACCEPTED, 200)


def test_an_absolute_target_without_a_path_is_the_root(door):
    assert ask(door.server, b"GET http://x HTTP/1.1\r\n" + HOST + b"\r\n").error["code"] == "NOT_FOUND"
    assert ask(door.server, b"GET http://x?y HTTP/1.1\r\n" + HOST + b"\r\n").error["code"] == "NOT_FOUND"


def test_an_encoded_slash_does_not_separate_parts_of_a_path(door):
    assert door.get(b"/v1/me").status == 200
    assert door.get(b"/v1/%6de").status == 200
    for path in (b"/v1%2fme", b"/v1%2Fme", b"/v1/%2fme", b"//v1/me", b"/v1/./me", b"/v1/../v1/me"):
        assert door.get(path).status == 404
    assert door.get(b"/v1/queues/reports%2fpause").status in (403, 404)


@pytest.mark.parametrize("body", [b"x" * 50, b"%x\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (50, b"x" * 50)])
def test_the_head_after_the_body_of_a_refused_request_is_read_whole(door, body):
    framing = b"Content-Length: 50" if body.startswith(b"x") else b"Transfer-Encoding: chunked"
    refused = b"POST /webhooks/nobody HTTP/1.1\r\n" + HOST + framing + b"\r\n\r\n"
    with raw(door.server) as connection:
        for cut in (0, 10, len(body) - 1):
            connection.send(refused + body[:cut])
            assert connection.answer().status == 404
            # the rest of the body and the next head arrive together
            connection.send(body[cut:] + door.sized(JOB, b"Idempotency-Key: one"))
            assert connection.answer().status in (200, 201)
        for cut in range(5, 60, 9):
            connection.send(refused)
            assert connection.answer().status == 404
            again = door.sized(JOB, b"Idempotency-Key: one")
            connection.send(body + again[:cut])
            connection.send(again[cut:])
            assert connection.answer().headers.get("idempotency-replayed") == "true"
        connection.send(refused)
        assert connection.answer().status == 404
        connection.send(body + HEAD + HOST + HOST + b"\r\n")
        assert connection.answer().status == 400
    assert door.jobs() == 1


def test_requests_sent_together_are_answered_in_order(door):
    with raw(door.server) as connection:
        connection.send(
            door.sized(JOB) + HEAD + HOST + b"\r\n" + door.sized(b"no JSON") + HEAD + HOST + b"\r\n"
        )
        assert [connection.answer().status for _ in range(4)] == [201, 200, 400, 200]


def test_a_refusal_waits_for_the_answers_to_earlier_requests(door):
    for bad, status in ((b"BREW / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505)):
        with raw(door.server) as connection:
            connection.send(door.sized(JOB) + door.sized(JOB) + bad)
            assert [connection.answer().status for _ in range(3)] == [201, 201, status]
            assert connection.closed()


def test_a_request_that_is_refused_never_takes_the_answer_of_another(door):
    for bad, status in (
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (HEAD + HOST + b"X-Long: " + b"x" * 150_000 + b"\r\n\r\n", 431),
        (HEAD + HOST + b"X-One: 1\r\n" * 300 + b"\r\n", 431),
        (HEAD + b"\r\n", 400),
    ):
        with raw(door.server) as connection:
            connection.send(door.sized(JOB) + HEAD + HOST + b"\r\n" + bad)
            answers = [connection.answer() for _ in range(3)]
            assert [answer.status for answer in answers] == [201, 200, status], answers[2].body
            assert connection.closed()
    assert door.jobs() == 4


def test_many_offers_to_change_the_protocol_in_one_segment_are_all_ignored(door):
    with raw(door.server) as connection:
        connection.send((HEAD + HOST + OFFER + b"\r\n") * 2_000)
        assert {connection.answer().status for _ in range(2_000)} == {200}


def test_an_earlier_answer_is_sent_whole_before_a_refusal(door):
    with raw(door.server) as connection:
        connection.send(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\nBREW / HTTP/1.1\r\n\r\n")
        assert connection.answer().status == 200
        assert connection.answer().status == 400
        assert connection.closed()


def test_a_framing_error_in_a_body_ends_the_request(door):
    for chunk in (b"zz\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"3\nabc\r\n"):
        with raw(door.server) as connection:
            connection.send(door.post(chunk, b"Transfer-Encoding: chunked"))
            answer = connection.answer()
            assert (answer.status, answer.error["code"]) == (400, "VALIDATION_ERROR")
            assert connection.closed()
    assert door.jobs() == 0


def test_a_trailer_does_not_become_a_header(door):
    body = b"%x\r\n%s\r\n0\r\n" % (len(JOB), JOB)
    request = b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body
    assert ask(door.server, request + door.key + b"\r\n\r\n").error["code"] == "UNAUTHORIZED"
    with raw(door.server) as connection:
        connection.send(door.post(body + b"X-Trailer: 1\r\nHost: y\r\n\r\n", b"Transfer-Encoding: chunked"))
        assert connection.answer().status == 201
        connection.send(HEAD + HOST + b"\r\n")
        assert connection.answer().status == 200


def test_head_answers_as_get_without_the_body(door):
    for path in (b"/healthz", b"/readyz", b"/openapi.json", b"/docs", b"/v1/jobs", b"/v1/me", b"/nothing"):
        with raw(door.server) as connection:
            request = path + b" HTTP/1.1\r\n" + HOST + door.key + b"\r\n\r\n"
            connection.send(b"HEAD " + request)
            head = connection.answer(to_head=True)
            # nothing of a body precedes the next answer
            connection.send(b"GET " + request)
            get = connection.answer()
        assert (head.status, head.headers["content-type"]) == (get.status, get.headers["content-type"])
        assert int(head.headers["content-length"]) > 0


def test_options_names_the_methods_of_a_path(door):
    for path, allowed in {
        b"/v1/jobs": "GET, POST, HEAD, OPTIONS",
        b"/v1/jobs/x": "GET, DELETE, HEAD, OPTIONS",
        b"/v1/queues/q/limits": "PUT, OPTIONS",
        b"/webhooks/github": "POST, OPTIONS",
        b"/healthz": "GET, HEAD, OPTIONS",
        b"*": "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS",
    }.items():
        answer = ask(door.server, b"OPTIONS " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (answer.status, answer.headers["allow"], answer.body) == (204, allowed, b"")
    assert ask(door.server, b"OPTIONS /nothing HTTP/1.1\r\n" + HOST + b"\r\n").status == 404


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"DELETE", b"TRACE", b"GET", b"HEAD"])
def test_a_method_that_a_path_does_not_have_is_405_and_allow_names_what_it_has(door, method):
    path = b"/webhooks/github" if method in (b"GET", b"HEAD") else b"/v1/jobs"
    answer = ask(door.server, method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
    assert answer.status == 405
    assert answer.headers["allow"] == ("POST, OPTIONS" if b"web" in path else "GET, POST, HEAD, OPTIONS")


def test_the_client_that_expects_100_continue_gets_it_when_the_body_is_wanted(door):
    with raw(door.server) as connection:
        connection.send(door.post(b"", b"Expect: 100-Continue", b"Content-Length: %d" % len(JOB)))
        assert connection.answer().status == 100
        connection.send(JOB)
        assert connection.answer().status == 201
    with raw(door.server) as connection:
        connection.send(
            b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )
        answer = connection.answer()
        # no one knows whether the body follows
        assert (answer.status, answer.headers["connection"]) == (401, "close")
    with raw(door.server) as connection:
        connection.send(door.post(b"", b"Expect: 100-continue", b"Content-Length: 100001"))
        assert connection.answer().status == 413


def test_a_body_over_the_limit_is_413_also_for_a_client_that_sends_it_all_first(door):
    for headers in (b"Content-Length: 5000000", b"Transfer-Encoding: chunked"):
        with raw(door.server) as connection:
            connection.send(door.post(b"", headers))
            if b"chunked" in headers:
                for _ in range(100):
                    connection.send(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
            else:
                connection.send(b"x" * 5_000_000)
            answer = connection.answer()
            assert (answer.status, answer.error["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "header", [b"Content-Encoding: gzip", b"Content-Encoding: br", b"Content-Type: text/plain"]
)
def test_a_body_in_another_form_is_415_with_a_reason(door, header):
    lines = [b"POST /v1/jobs HTTP/1.1", HOST.strip(), door.key, header, b"Content-Length: 3"]
    answer = ask(door.server, b"\r\n".join([*lines, b"", b"abc"]))
    assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert re.search("gzip|br|text/plain", answer.error["message"])
