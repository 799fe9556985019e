"""gRPC's standard health service, whose watchers neither outlive the server nor fill its memory."""

import contextlib
import threading
from collections.abc import Callable, Collection
from typing import Any

from grpc_health.v1 import health, health_pb2

NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health.HealthServicer):
    """What `grpc.health.v1.Health` answers.

    Args:
        services: the names that may be asked for; the empty one, for the whole server, always may.
    """

    def __init__(self, services: Collection[str]) -> None:
        # A watcher takes no thread of its own, so that watchers cannot use them up.
        super().__init__(experimental_non_blocking=True)
        self._services = ("", *services)
        self._watchers: set[Callable[[Any], None]] = set()
        self._watching = threading.Lock()

    def tell(self, ready: bool) -> None:
        """Tells those who ask, and at once those who watch."""
        state = health_pb2.HealthCheckResponse.SERVING
        if not ready:
            state = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._services:
            self.set(name, state)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
        """Tells of each change, until `finish`."""
        if request.service not in self._services:
            # The library would keep every name that it was ever asked for.
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            send_response_callback(health_pb2.HealthCheckResponse(status=unknown))
            send_response_callback(None)
            return None
        with self._watching:
            self._watchers.add(send_response_callback)
        context.add_callback(lambda: self._forget(send_response_callback))
        return super().Watch(request, context, send_response_callback)

    def finish(self) -> None:
        """Says good-bye to watchers: a server that stops waits for its calls, and theirs last."""
        with self._watching:
            watchers = list(self._watchers)
        for send in watchers:
            with contextlib.suppress(Exception):  # it may have left meanwhile
                send(None)

    def _forget(self, watcher: Callable[[Any], None]) -> None:
        with self._watching:
            self._watchers.discard(watcher)
