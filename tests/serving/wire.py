"""Bytes to a server and back, for what no client library would send."""

import json
import socket

PREDICT = "/v1/models/reviews:predict"
HEAD = b"POST /v1/models/reviews:predict HTTP/1.1\r\nHost: localhost\r\n"


def connect(running):
    return socket.create_connection(("127.0.0.1", running.server.rest_port), timeout=30)


def until(connection, wanted, times=1):
    """Reads on until what is wanted has come so often."""
    received = b""
    while received.count(wanted) < times:
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk


def everything(connection):
    """What the server sends until it closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def said(received):
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]
