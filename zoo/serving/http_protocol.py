"""uvicorn's HTTP connection, given up on if its headers do not come, or its answer is not read."""

import asyncio
from typing import Any, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zoo.serving.json_codec import dumped

_INVALID = "Invalid HTTP request received."


class PatientProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection that waits `header_seconds` for each request's headers, no longer.

    uvicorn itself has a limit for the pause between two requests, but none for a caller that sends
    its first line byte by byte, or nothing at all. Nor does it have one for the rest of a request
    that has been answered without it, which is here `rest_seconds`, nor for a caller that does not
    read: in each `write_seconds` at least `write_bytes` of what waits for it must go. Headers that
    have not ended after `header_bytes` are refused.
    """

    header_seconds = 10.0
    header_bytes = 1 << 16
    rest_seconds = 30.0
    write_seconds = 30.0
    write_bytes = 1 << 16
    _part: Literal["headers", "body"] | None = None
    # Bytes of headers, or of trailers, which no part of the body follows.
    _headers_came = 0
    _broken = False
    _due: asyncio.TimerHandle | None = None
    _waits = 0.0
    _unread_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Starts to wait for the first request."""
        super().connection_made(transport)
        # So that no answer is too small to be noticed. Not 0: asyncio would pause TLS even when
        # nothing waits.
        transport.set_write_buffer_limits(high=1)
        self._wait(self.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Takes bytes in; a request that is still incomplete is waited for."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            if self._part == "body" or self._answered:
                self.send_400_response(_INVALID)
            else:  # the request before it still has its answer coming
                self._broken = True
                self._wait_no_more()
            return
        if self._part == "headers":
            self._wait(self.header_seconds)
        elif self._part == "body" and self._answered:
            self._wait(self.rest_seconds)
        elif self._part == "body" or not self._answered:
            self._wait_no_more()
        elif self._due is None:  # empty lines
            self._wait(self.header_seconds)

    def _parse(self, data: bytes) -> None:
        if self._broken:
            return
        self._headers_came += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol's, and reads no further. None
                # is offered: the request is read again, as if it had not asked for one.
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if self._part is not None and self._headers_came > self.header_bytes:
            raise httptools.HttpParserError("headers, or trailers, without end")

    def _without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":  # which is an upgrade by itself
            raise httptools.HttpParserError("this is no proxy")
        lines = [b"%s %s HTTP/%s" % (method, self.url, version.encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._part, self._headers_came = "headers", 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what follows a body is none."""
        if self._part == "headers":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of its headers."""
        self._part, self._headers_came = "body", 0
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            self._part = None
            raise ValueError("as HTTP/1.1 has it, a request names one host")
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            # By it, whoever answers can tell whether the caller has hung up.
            self.scope["state"]["cycle"] = self.cycle

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._headers_came = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of its body."""
        self._part = None
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The end of an answer."""
        super().on_response_complete()
        if not self._answered or self.transport.is_closing():
            return
        if self._broken:
            self.send_400_response(_INVALID)
        elif self._part == "headers":
            self._wait(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the waiting."""
        self._wait_no_more()
        self._read_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begins to wait for the caller to read."""
        super().pause_writing()
        if self._unread_due is None:
            self._wait_for_reading()

    def resume_writing(self) -> None:
        """Ends that: all is sent."""
        self._read_on()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Says in this API's form that what came is no HTTP."""
        body = dumped({"error": msg})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 400 Bad Request", *map(b": ".join, headers), b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        if self._due is not None and self._waits == seconds:
            return
        self._wait_no_more()
        if not self.transport.is_closing():
            self._waits = seconds
            self._due = self.loop.call_later(seconds, self._give_up)

    def _wait_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _give_up(self) -> None:
        self._due = None
        if self._answered:
            self.transport.close()

    def _wait_for_reading(self) -> None:
        waiting = self.transport.get_write_buffer_size()

        def look() -> None:
            self._unread_due = None
            if self.transport.get_write_buffer_size() > waiting - self.write_bytes:
                # `close` would wait until all is sent.
                self.transport.abort()
            else:
                self._wait_for_reading()

        self._unread_due = self.loop.call_later(self.write_seconds, look)

    def _read_on(self) -> None:
        if self._unread_due is not None:
            self._unread_due.cancel()
            self._unread_due = None
