"""uvicorn's HTTP connection, given up on if its headers do not come, or its answer is not read."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zoo.serving.json_codec import dumped


class PatientProtocol(H11Protocol):
    """An HTTP/1.1 connection that waits `header_seconds` for each request's headers, no longer.

    uvicorn itself has a limit for the pause between two requests, but none for a caller that sends
    its first line byte by byte, or nothing at all. Nor does it have one for the rest of a request
    that has been answered without it, which is here `rest_seconds`, nor for a caller that does not
    read: in each `write_seconds` at least `write_bytes` of what waits for it must go.
    """

    header_seconds = 10.0
    rest_seconds = 30.0
    write_seconds = 30.0
    write_bytes = 1 << 16
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
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.IDLE:
            if self._due is None or self.conn.trailing_data[0]:
                self._wait(self.header_seconds)
        elif state is h11.SEND_BODY and self._answered:
            self._wait(self.rest_seconds)
        else:
            self._wait_no_more()

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
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
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
