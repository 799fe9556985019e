"""How much a caller may send, and how long it may take."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from starlette.requests import ClientDisconnect, Request

from zoo.serving.failure import Failure, invalid


@dataclass(frozen=True)
class Limits:
    """What one caller, and all of them, may ask of the server.

    Args:
        body_bytes: of a request, over either protocol.
        body_seconds: from a request's headers to the last byte of its body.
        header_seconds: from its first byte to the end of its headers.
        requests: that may be under way, over each protocol.
        threads: requests that are worked on at once, over both protocols, and gRPC's messages that
            are held; the others wait. One gRPC connection may have half of them under way.
    """

    body_bytes: int = 4 << 20
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    requests: int = 1024
    threads: int = 256

    @property
    def elements(self) -> int:
        """Elements of one input, and of an answer; bytes of one input's strings, unfolded.

        More than any body could spell out, unless by abbreviation.
        """
        return max(self.body_bytes, 1 << 16)

    @property
    def unfolded_bytes(self) -> int:
        """What a context may come to when each of a request's examples has a copy of it."""
        return 4 * self.elements


def check_answer(arrays: Iterable[Any], max_elements: int) -> None:
    """Refuses an answer before it is put into words, which take many times its room.

    Args:
        arrays: the outputs.
        max_elements: how many elements they may have together.

    Raises:
        Failure: if they have more.
    """
    check_size(sum(array.size for array in arrays), max_elements)


def check_size(elements: int, max_elements: int) -> None:
    """The same for what is not put together yet."""
    if elements > max_elements:
        raise invalid(f"the answer has more than {max_elements} elements: ask for fewer rows")


class TooMany(Failure):
    """An input of more elements than are taken."""


class TooLarge(Failure):
    """A body over the limit, for which HTTP has a status of its own."""

    http_status = 413


class TooSlow(Failure):
    """A body that does not come."""

    http_status = 408


class Bodies:
    """Reads bodies, each within its limits and all together within a multiple of one's.

    Args:
        limits: of each.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0
        # Room for many small bodies, or a few of the largest.
        self._most_held = 16 * limits.body_bytes

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body, for whose bytes room is kept as long as it is in use.

        Raises:
            Failure: if it is too large or too slow, or if others' bodies fill the room.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                await self._fill(body, request)
            yield bytes(body)
        except TimeoutError as error:
            message = f"the body did not come within {self._limits.body_seconds:g} seconds"
            raise TooSlow(grpc.StatusCode.DEADLINE_EXCEEDED, message) from error
        except ClientDisconnect as error:
            raise Failure(grpc.StatusCode.CANCELLED, "the caller is gone") from error
        finally:
            self._held -= len(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        limit = self._limits.body_bytes
        received = 0
        try:
            told = int(request.headers.get("content-length", 0))
        except ValueError as error:
            raise invalid("Content-Length is no number") from error
        async for chunk in request.stream():
            # What is too much is still taken in, and dropped: a caller that is cut off while it
            # sends would see a broken connection in place of the reason.
            received += len(chunk)
            if max(told, received) <= limit:
                self._held += len(chunk)
                body += chunk
            elif received > 16 * limit:
                break
            if self._held > self._most_held:
                message = "too many large bodies at once"
                raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        if max(told, received) > limit:
            raise TooLarge(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the body is over {limit} bytes")
