"""One HTTP/1.1 connection: uvicorn's protocol on llhttp, with limits on time and size."""

import asyncio
from enum import Enum, auto
from typing import Any, Final

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from callboard.api.http import refusals
from callboard.api.http.connections import Connections
from callboard.api.http.lingering import LINGER_SECONDS, MAX_LINGER, LingeringTransport
from callboard.api.http.refusals import MAX_HEAD, MAX_HEADERS, Refusal, Refused
from callboard.api.http.request_metrics import count_refusal
from callboard.api.http.second_reading import SecondReading, head_without_offer
from callboard.api.http.targets import decoded_path, origin_form

#: How long a head may take; how long a kept connection may wait for the next request. Seconds.
HEAD_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 75.0
#: A body may take this long, and one second more for each BODY_RATE bytes of it that have arrived.
BODY_SECONDS: Final = 30.0
BODY_RATE: Final = 16 * 1024
#: The longest chunk extensions or trailers in a row, in bytes; one read from the socket more may pass.
MAX_FRAMING: Final = 16 * 1024
_MAX_START: Final = 300
_NEVER: Final = float("inf")

log = structlog.get_logger(__name__)


class _Reading(Enum):
    """The part of a request that the connection reads next."""

    #: Between requests. On a new connection, before the first one.
    NOTHING = auto()
    HEAD = auto()
    BODY = auto()
    #: The request is read completely, and is being answered.
    END = auto()
    #: What still arrives is dropped.
    REFUSED = auto()


class Connection(HttpToolsProtocol):
    """Reads requests and passes them to the app.

    Refuses what is not valid or not safe with an error in our form. Ignores every offer to change the
    protocol (RFC 9110, 7.8). `check_time` closes the connection when the client is too slow.
    """

    server_state: Connections
    transport: LingeringTransport

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._reading = _Reading.NOTHING
        self._deadline = _NEVER
        self._head_size = 0
        self._head_start = b""
        self._head_again = b""
        self._body_size = 0
        self._body_since = _NEVER
        #: Bytes of chunk extensions and trailers since the last byte of the body.
        self._framing_size = 0
        self._dropped = 0
        self._refusal: Refusal | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = LingeringTransport(transport, lambda: self._reading is not _Reading.END)
        if self.server_state.overcrowded:
            self.transport.abort()
        elif self.server_state.admits(self):
            self._deadline = self.loop.time() + HEAD_SECONDS
            self.server_state.waiting[self] = None
        else:
            self._reading = _Reading.REFUSED
            self.transport.write(refusals.TOO_MANY_CONNECTIONS.encode())
            self.transport.close()
            count_refusal(refusals.TOO_MANY_CONNECTIONS.status)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.server_state.left(self)

    def shutdown(self) -> None:
        """Close the connection after the running request."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close_now()
        else:
            self.cycle.keep_alive = False

    def evict(self) -> None:
        self.transport.close_now()

    # --- reading --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        match self._reading:
            case _Reading.NOTHING:
                self._reading = _Reading.HEAD
                self._deadline = min(self._deadline, self.loop.time() + HEAD_SECONDS)
                self._head_size = len(data)
                self._head_start = data[:_MAX_START]
            case _Reading.HEAD:
                self._head_size += len(data)
            case _Reading.BODY:
                self._framing_size += len(data)
            case _Reading.REFUSED:
                self._drop(len(data))
                return
        if self.transport.lingering:
            self._drop(len(data))
            return
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(self._refusal_of(error))
            return
        if self._reading is _Reading.HEAD and self._head_size > MAX_HEAD:
            self._refuse(refusals.HEAD_TOO_LARGE)
        elif self._reading is _Reading.BODY and self._framing_size > MAX_FRAMING:
            self._refuse(refusals.FRAMING_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # The parser has stopped after the head. Another one reads the head again without the offer, and
            # then the rest.
            self.parser = httptools.HttpRequestParser(SecondReading(self))
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(self._head_again)
            self._feed(data[offer.args[0] :])

    def _refusal_of(self, error: httptools.HttpParserError) -> Refusal:
        if isinstance(error.__context__, Refused):
            return error.__context__.refusal
        unknown = isinstance(error, httptools.HttpParserInvalidMethodError)
        return refusals.unparsed(self._head_start, str(error)[:200], method_unknown=unknown)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._reading is _Reading.END:
            # The client sends the next request before it has the answer. Its head started in the middle of
            # the received data, so its size is not known yet.
            self._reading = _Reading.HEAD
            self._deadline = self.loop.time() + HEAD_SECONDS
            self._head_size = 0
            self._head_start = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer must not become a header: the app has read the headers already.
        if self._reading is _Reading.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS or (
            self._head_size > MAX_HEAD and self._real_head_size() > MAX_HEAD
        ):
            raise Refused(refusals.HEAD_TOO_LARGE)
        version = self.parser.get_http_version()
        refusals.check_head(self.parser.get_method(), version, self.headers)
        if b"#" in self.url:
            raise Refused(refusals.malformed("the target has a fragment"))
        self.url = origin_form(self.url)
        if self.parser.should_upgrade():
            self._head_again = head_without_offer(version, self.headers)
        self._reading = _Reading.BODY
        self._body_since = self.loop.time()
        self._deadline = self._body_since + BODY_SECONDS
        self._body_size = self._framing_size = self._dropped = 0
        self._head_start = b""
        self.server_state.waiting.pop(self, None)
        super().on_headers_complete()
        if b"%2" in self.scope["raw_path"]:
            self.scope["path"] = decoded_path(self.scope["raw_path"])

    def _real_head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._framing_size = 0
        self._body_size += len(body)
        if self.cycle.response_complete:
            self._drop(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser assumes that there is no body
        self._reading = _Reading.END
        self._deadline = _NEVER
        if self.cycle.response_complete:
            self._wait()
        else:
            super().on_message_complete()

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > MAX_LINGER:
            self.transport.abort()

    # --- answering ------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._send(self._refusal)
        elif self._reading is _Reading.END:
            self._wait()
        elif self._reading is _Reading.BODY:
            self._deadline = self.loop.time() + LINGER_SECONDS

    def _wait(self) -> None:
        self._reading = _Reading.NOTHING
        self._deadline = self.loop.time() + IDLE_SECONDS
        self.server_state.waiting[self] = None

    def _refuse(self, refusal: Refusal) -> None:
        """Answer the request that is being read with a refusal, then close the connection."""
        was, self._reading, self._deadline = self._reading, _Reading.REFUSED, _NEVER
        self.server_state.waiting.pop(self, None)
        if was is not _Reading.BODY:
            if self.cycle is None or self.cycle.response_complete:
                self._send(refusal)
            else:
                # An earlier request is still being answered.
                self._refusal = refusal
        elif self.pipeline:
            # The request waits for the answers to earlier ones, so the app has not seen it.
            self.pipeline.popleft()
            self._refusal = refusal
        elif self.cycle.response_complete:
            self.transport.close()
        elif self.cycle.response_started:
            self.transport.abort()
        else:
            self.cycle.scope["state"]["refused"] = refusal
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._send(refusal)

    def _send(self, refusal: Refusal) -> None:
        self.transport.write(refusal.encode())
        self.transport.close()
        if self.cycle is None or not self.cycle.disconnected:
            client = self.client[0] if self.client else None
            log.info("http.refused", status=refusal.status, reason=refusal.message, client=client)
            count_refusal(refusal.status)

    # --- deadlines ------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        if self.transport.is_stuck(now):
            self.server_state.count("write")
            self.transport.abort()
        elif self.transport.lingering:
            self.flow.resume_reading()
            if self.transport.has_lingered(now):
                self.transport.abort()
        elif now > self._deadline:
            self._time_is_over(now)

    def _time_is_over(self, now: float) -> None:
        match self._reading:
            case _Reading.NOTHING:
                self.server_state.count("head" if self.cycle is None else "idle")
                self.transport.close_now()
            case _Reading.HEAD:
                self.server_state.count("head")
                self._refuse(refusals.HEAD_TOO_SLOW)
            case _Reading.BODY if self.cycle.response_complete:
                self.transport.abort()
            case _Reading.BODY if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                # The app has not asked for the body yet: the client is not too slow.
                self._body_since, self._body_size = now, 0
                self._deadline = now + BODY_SECONDS
            case _Reading.BODY:
                self._deadline = self._body_since + BODY_SECONDS + self._body_size / BODY_RATE
                if now > self._deadline:
                    self.server_state.count("body")
                    self._refuse(refusals.BODY_TOO_SLOW)
