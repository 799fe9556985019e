"""The one exception of a request that cannot be answered, with its code in both protocols."""

import logging
import traceback

import grpc
import tensorflow as tf

from zoo.errors import reason

_LOG = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# TensorFlow Serving's own table; 499 is what a caller that has gone away would have got.
_HTTP = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}

# What TensorFlow puts on a line of its own before what went wrong.
_PREFIX = "Graph execution error:"
_MOST_CHARACTERS = 300


class Failure(Exception):
    """A request that cannot be answered.

    Args:
        code: why, as gRPC says it.
        message: one line for the caller.

    Example:
        >>> failure = Failure(grpc.StatusCode.NOT_FOUND, "no model of that name")
        >>> failure.http_status, failure.number
        (404, 5)
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def http_status(self) -> int:
        """The status of the answer over HTTP."""
        return _HTTP.get(self.code, 500)

    @property
    def number(self) -> int:
        """The code as TensorFlow's protocol buffers count it."""
        return self.code.value[0]


def invalid(message: str) -> Failure:
    """A failure that is the caller's to mend."""
    return Failure(grpc.StatusCode.INVALID_ARGUMENT, message)


def failure_of(error: Exception) -> Failure:
    """What TensorFlow, or anything else, raised while it ran a model.

    Example:
        >>> failure_of(tf.errors.OutOfRangeError(None, None, "index 7 of 3")).code.name
        'OUT_OF_RANGE'
    """
    if isinstance(error, Failure):
        return error
    if isinstance(error, tf.errors.OpError):
        message = reason(ValueError(error.message.removeprefix(_PREFIX)))
        return Failure(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), message)
    # Not foreseen, so whoever runs the server must see where; what it says may hold what came.
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("%s %s\n%s", type(error).__name__, quoted(str(error)), where)
    return Failure(grpc.StatusCode.INTERNAL, reason(error))


def quoted(text: object) -> str:
    """What a caller sent, for a message or a log: ASCII, one line, of bounded length.

    Example:
        >>> quoted("../../etc" + chr(10) + chr(27))
        "'../../etc\\\\n\\\\x1b'"
    """
    short = ascii(text if not isinstance(text, str) else text[:_MOST_CHARACTERS])
    return short if len(short) <= _MOST_CHARACTERS else f"{short[:_MOST_CHARACTERS]}..."
