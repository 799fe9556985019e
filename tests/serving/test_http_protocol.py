"""What comes over a connection that is no whole request, or more than one."""

import socket
import time

import pytest

from tests.serving.wire import HEAD, connect, everything, said, until
from zoo.serving.http_protocol import PatientProtocol

pytestmark = pytest.mark.usefixtures("still_there")


def test_who_sends_no_headers_is_given_up_on(running):
    with connect(running) as silent, connect(running) as slow:
        slow.sendall(b"POST / HT")
        assert everything(silent) == b""
        assert everything(slow) == b""


def test_so_is_who_begins_a_second_request_and_does_not_go_on(running):
    with connect(running) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(connection, b'{"status":"alive"}')
        connection.sendall(b"GET /hea")
        assert everything(connection) == b""


def test_a_connection_that_is_closed_on_one_side_is_given_up(running):
    with connect(running) as connection:
        connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b""


def test_a_body_that_is_broken_off(running):
    with connect(running) as connection:
        connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=("tls", "negative", "twice"),
)
def test_what_is_no_http(running, sent):
    with connect(running) as connection:
        connection.sendall(sent)
        code, error = said(everything(connection))
    assert (code, error) == (400, "Invalid HTTP request received.")


def test_an_upgrade_that_is_not_offered_leaves_the_body_be(running):
    """As Java's client asks for HTTP/2 with every first request."""
    body = b'{"instances": ["a film"]}'
    head = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    with connect(running) as connection:
        for _ in range(2):
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            until(connection, b'"predictions"')


def test_an_upgrade_behind_another_request(running):
    body = b'{"instances": ["a film"]}'
    head = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connect(running) as connection:
        connection.sendall(
            (HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body + head + body) * 2
        )
        until(connection, b'"predictions"', times=4)


def test_no_proxy_is_offered(running):
    with connect(running) as connection:
        connection.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /")
        assert said(everything(connection)) == (400, "Invalid HTTP request received.")


def test_headers_that_come_byte_by_byte_have_an_end_too(running, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "header_bytes", 300)
    with connect(running) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):  # noqa: PT012 (one of them)
            for number in range(1000):
                connection.sendall(b"X-%d: a\r\n" % number)
                time.sleep(0.001)


@pytest.mark.parametrize("line", [b"X: " + b"a" * 1000, b""], ids=["many", "one"])
def test_trailers_without_end(running, line):
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(running) as connection:
        connection.sendall(head + b"1\r\na\r\n0\r\n" + (b"" if line else b"X: "))
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):
            connection.sendall((line + b"\r\n" if line else b"a" * 1000) * 20_000)


def test_a_trailer_is_no_header(running):
    head = b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with connect(running) as connection:
        connection.sendall(head + b"Host: localhost\r\n\r\n")
        assert said(everything(connection)) == (400, "Invalid HTTP request received.")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n",
    ],
    ids=["none", "two", "version"],
)
def test_a_request_names_one_host(running, sent):
    with connect(running) as connection:
        connection.sendall(sent)
        assert said(everything(connection)) == (400, "Invalid HTTP request received.")


def test_what_is_no_http_takes_no_answer_away(running):
    body = b'{"instances": ["a film"]}'
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    with connect(running) as connection:
        connection.sendall(head + body + b"nonsense\r\n\r\n")
        first, _, second = everything(connection).partition(b"HTTP/1.1 400")
    assert b'"predictions"' in first
    assert b"Invalid HTTP request received." in second


def test_requests_behind_one_another(running):
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(running) as connection:
        connection.sendall(one * 3)
        until(connection, b'{"status":"alive"}', times=3)


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_empty_lines_keep_no_connection(running, before, monkeypatch):
    # What follows a whole request counts as the pause before the next one.
    monkeypatch.setattr(running.server._uvicorn.config, "timeout_keep_alive", 1)
    with connect(running) as connection:
        connection.sendall(before + b"\r\n")
        everything(connection)


def test_who_goes_on_sending_what_was_answered_is_given_up_on(running, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "rest_seconds", 0.3)
    with connect(running) as connection:
        connection.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
        )
        until(connection, b"is not served")
        connection.sendall(b"a")
        assert everything(connection) == b""


def test_a_body_that_was_not_needed_may_come_later(running):
    """The header's half second is not for it, and the next request has a whole one."""
    with connect(running) as connection:
        connection.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\na"
        )
        until(connection, b"404")
        connection.sendall(b"b")
        time.sleep(0.4)
        connection.sendall(b"cdGET /healthz HT")
        time.sleep(0.15)
        connection.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        until(connection, b'{"status":"alive"}')


def test_headers_without_end(running):
    with connect(running) as connection, pytest.raises(OSError, match=r"reset|pipe|aborted"):
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 50_000_000)
