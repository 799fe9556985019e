"""gRPC's standard health service, whose watchers neither outlive the server nor fill its memory."""

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health.aio.HealthServicer):
    """What `grpc.health.v1.Health` answers, on one event loop.

    Args:
        services: the names that may be asked for; the empty one, for the whole server, always may.
        most: how many may watch at once.
    """

    def __init__(self, services: Collection[str], most: int) -> None:
        super().__init__()
        self._places = most
        self._services = ("", *services)
        self._finished = False
        # Set, and put aside for a new one, whenever anything changes.
        self._changed = asyncio.Event()

    async def tell(self, ready: bool) -> None:
        """Tells those who ask, and at once those who watch."""
        state = health_pb2.HealthCheckResponse.SERVING
        if not ready:
            state = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._services:
            await self.set(name, state)
        self._wake()

    async def Watch(self, request: Any, context: Any) -> None:
        """Tells of each change, until `finish`."""
        if request.service not in self._services:
            # The library would keep every name that it was ever asked for.
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            await context.write(health_pb2.HealthCheckResponse(status=unknown))
            return
        if not self._places:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch already")
        self._places -= 1
        try:
            await self._tell_of_changes(request, context)
        finally:
            self._places += 1

    async def _tell_of_changes(self, request: Any, context: Any) -> None:
        told = None
        # Not the library's: there, one who leaves takes the others' news along.
        while True:
            changed = self._changed
            now = await self.Check(request, context)
            if now != told:
                await context.write(now)
                told = now
            if self._finished:
                return
            await changed.wait()

    def finish(self) -> None:
        """Says good-bye to watchers: a server that stops waits for its calls, and theirs last."""
        self._finished = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
