"""One HTTP/1.1 connection: uvicorn's protocol on llhttp, with limits on time and size."""

import asyncio
from typing import Any, Final

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from callboard.api.http import refusals
from callboard.api.http.connections import Connections
from callboard.api.http.deadline import Deadline
from callboard.api.http.held_flow import HeldFlow
from callboard.api.http.lingering import MAX_LINGER, LingeringTransport
from callboard.api.http.reading_state import Reading
from callboard.api.http.refusals import MAX_HEAD, MAX_HEADERS, Refusal, Refused
from callboard.api.http.request_metrics import count_refusal
from callboard.api.http.second_reading import SecondReading, head_without_offer
from callboard.api.http.targets import decoded_path, origin_form

#: The longest chunk extensions or trailers in a row, in bytes; one read from the socket more may pass.
MAX_FRAMING: Final = 16 * 1024
_MAX_START: Final = 300
#: This many bytes are parsed at once: a client that does not wait for answers has only so many requests in
#: memory.
_SLICE: Final = 4096

log = structlog.get_logger(__name__)


class Connection(HttpToolsProtocol):
    """Reads requests and passes them to the app.

    Refuses what is not valid or not safe with an error in our form. Ignores every offer to change the
    protocol (RFC 9110, 7.8). `check_time` closes the connection when the client is too slow.
    """

    server_state: Connections
    transport: LingeringTransport
    flow: HeldFlow

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._reading = Reading.NOTHING
        self._deadline = Deadline(self.loop.time)
        self._head_size = 0
        self._head_start = b""
        self._head_again = b""
        #: Bytes of chunk extensions and trailers since the last byte of the body.
        self._framing_size = 0
        self._dropped = 0
        self._refusal: Refusal | None = None
        #: Received, but not parsed: requests before it are still being answered.
        self._unread = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = HeldFlow(transport)
        self.transport = LingeringTransport(transport, lambda: self._reading is not Reading.END)
        if self.server_state.overcrowded:
            self.transport.abort()
        elif self.server_state.admits(self):
            self._deadline.begin_head()
            self.server_state.waiting[self] = None
        else:
            self._reading = Reading.REFUSED
            self.transport.write(refusals.TOO_MANY_CONNECTIONS.encode())
            self.transport.close()
            count_refusal(refusals.TOO_MANY_CONNECTIONS.status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.left(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection after the running request."""
        self._unread = b""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close_now()
        elif self._reading is Reading.BODY and not self.cycle.response_started:
            self._refuse(refusals.STOPPING)
        else:
            self.cycle.keep_alive = False

    def evict(self) -> None:
        self.transport.abort()

    # --- reading --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._unread += data
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Parse data. Once a request waits for the answer to another one, keep the rest for later."""
        for start in range(0, len(data), _SLICE):
            if self.pipeline:
                self._unread = data[start:]
                self.flow.hold()
                return
            self._read_slice(data[start : start + _SLICE] if len(data) > _SLICE else data)

    def _read_slice(self, data: bytes) -> None:
        if self._reading is Reading.REFUSED or self.transport.lingering:
            self._drop(len(data))
            return
        match self._reading:
            case Reading.NOTHING if data.strip(b"\r\n"):
                self._begin_head(len(data), data[:_MAX_START])
            case Reading.HEAD:
                self._head_size += len(data)
            case Reading.BODY:
                self._framing_size += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(refusals.refusal_of(error, self._head_start))
            return
        if self._reading is Reading.HEAD and self._head_size > MAX_HEAD:
            self._refuse(refusals.HEAD_TOO_LARGE)
        elif self._reading is Reading.BODY and self._framing_size > MAX_FRAMING:
            self._refuse(refusals.FRAMING_TOO_LARGE)

    def _begin_head(self, size: int, start: bytes) -> None:
        self._reading = Reading.HEAD
        self._deadline.begin_head()
        self._head_size = size
        self._head_start = start

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                # The parser has stopped after the head. Another one reads the head again without the offer,
                # and then the rest.
                self.parser = httptools.HttpRequestParser(SecondReading(self))
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(self._head_again)
                data = data[offer.args[0] :]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._reading in (Reading.END, Reading.NOTHING):
            # The head starts in the middle of the received data, behind another request.
            self._begin_head(0, b"")

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer must not become a header: the app has read the headers already.
        if self._reading is Reading.HEAD and len(self.headers) <= MAX_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS or len(self.url) > MAX_HEAD - 2 * _SLICE:
            raise Refused(refusals.HEAD_TOO_LARGE)
        version = self.parser.get_http_version()
        refusals.check_head(self.parser.get_method(), version, self.headers)
        if b"#" in self.url:
            raise Refused(refusals.malformed("the target has a fragment"))
        self.url = origin_form(self.url)
        if self.parser.should_upgrade():
            self._head_again = head_without_offer(version, self.headers)
        if version == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()
        self._reading = Reading.BODY
        self._framing_size = self._dropped = 0
        self._head_start = b""
        self.server_state.waiting.pop(self, None)
        self._deadline.begin_body()
        if b"%2" in self.scope["raw_path"]:
            self.scope["path"] = decoded_path(self.scope["raw_path"])

    def on_body(self, body: bytes) -> None:
        self._framing_size = 0
        self._deadline.body_size += len(body)
        if self.cycle.response_complete:
            self._drop(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser assumes that there is no body
        self._reading = Reading.END
        self._deadline.remove()
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
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self._reading is Reading.BODY and not self.pipeline:
                self._deadline.begin_body()
        elif self._refusal is not None:
            self._send(self._refusal)
        elif self._reading is Reading.END:
            self._wait()
        elif self._reading is Reading.BODY:
            self._deadline.begin_rest()
        if not self.pipeline:
            unread, self._unread = self._unread, b""
            self._read(unread)
            if not self._unread:
                self.flow.release()

    def _wait(self) -> None:
        self._reading = Reading.NOTHING
        self._deadline.begin_idle()
        if self.transport.is_sent():
            self.server_state.waiting[self] = None

    def _refuse(self, refusal: Refusal) -> None:
        """Answer the request that is being read with a refusal, then close the connection."""
        was, self._reading = self._reading, Reading.REFUSED
        self._deadline.remove()
        self.server_state.waiting.pop(self, None)
        if was is not Reading.BODY:
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
        elif self._deadline.is_over(now):
            self._time_is_over(now)
        elif self._reading is Reading.NOTHING and self.transport.is_sent():
            self.server_state.waiting.setdefault(self)

    def _time_is_over(self, now: float) -> None:
        match self._reading:
            case Reading.NOTHING:
                self.server_state.count("head" if self.cycle is None else "idle")
                self.transport.close_now()
            case Reading.HEAD:
                self.server_state.count("head")
                self._refuse(refusals.HEAD_TOO_SLOW)
            case Reading.BODY if self.cycle.response_complete:
                self.transport.abort()
            case Reading.BODY if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                # The app has not asked for the body yet: the client is not too slow.
                self._deadline.begin_body()
            case Reading.BODY:
                self._deadline.extend_body()
                if self._deadline.is_over(now):
                    self.server_state.count("body")
                    self._refuse(refusals.BODY_TOO_SLOW)
