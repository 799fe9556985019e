"""Both protocols on their ports, from the first look at the folders to the last answer."""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from zoo.errors import RunError, reason
from zoo.serving.batching import BatchSettings
from zoo.serving.grpc_services import make_server
from zoo.serving.http_protocol import PatientProtocol
from zoo.serving.limits import Limits
from zoo.serving.metrics import Metrics
from zoo.serving.model_config import ServedModel
from zoo.serving.predict import Predictor, Queue
from zoo.serving.registry import Registry
from zoo.serving.rest import RestApi
from zoo.serving.versions import Loaded

# Between two requests of one connection; longer than proxies keep theirs, so that it is they who
# close it, and never while a request is on its way.
_KEEP_ALIVE_SECONDS = 75


@dataclass(frozen=True)
class ServerSettings:
    """How a server runs.

    Args:
        host: the address that it listens on.
        rest_port: its port for HTTP; 0 for any free one.
        grpc_port: its port for gRPC; 0 for any free one.
        batching: how rows are batched.
        limits: what callers may ask.
        poll_seconds: how often the folders are looked at.
        token: what callers must show, if anything.
        tls: certificate chain and private key, in PEM files, if connections are encrypted.
        origins: whose pages may ask, besides the server's own.
        hosts: names that HTTP's callers may know the server by, in lower case; any if empty.
    """

    host: str = "127.0.0.1"
    rest_port: int = 8501
    grpc_port: int = 8500
    batching: BatchSettings = field(default_factory=BatchSettings)
    limits: Limits = field(default_factory=Limits)
    poll_seconds: float = 1.0
    token: str = ""
    tls: tuple[Path, Path] | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class Server:
    """A server of SavedModels.

    Args:
        models: what it serves.
        settings: how.
        say: told one line of what happens.

    Raises:
        RunError: if a port is taken, or the certificate is none.

    Attributes:
        rest_port: the port for HTTP.
        grpc_port: the port for gRPC.
        registry: the models.
    """

    def __init__(
        self, models: Sequence[ServedModel], settings: ServerSettings, say: Callable[[str], None]
    ) -> None:
        self._draining = threading.Event()
        self._telling = threading.Lock()
        batching, limits = settings.batching, settings.limits

        def load(folder: Path) -> Loaded:
            return Loaded(folder, batching, limits.elements)

        self.registry = Registry(models, load, settings.poll_seconds, say)
        queue = Queue(batching.max_queued)
        predictor = Predictor(self.registry, queue)
        metrics = Metrics(self.registry, queue)
        self._grpc, self._health = make_server(predictor, metrics, limits, settings.token)
        doors = (settings.token, settings.origins, settings.hosts)
        rest = RestApi(predictor, metrics, limits, self.ready, *doors)
        self._socket = _bound(settings.host, settings.rest_port)
        try:
            self._uvicorn = uvicorn.Server(_uvicorn_config(rest, settings))
            self.rest_port: int = self._socket.getsockname()[1]
            self.grpc_port = _bind_grpc(self._grpc, settings)
        except BaseException:
            self._socket.close()
            raise
        self._web = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), name="http", daemon=True
        )
        self.registry.on_change(self._tell_health)

    def ready(self) -> bool:
        """Whether every model has a version that answers, and the server is to stay."""
        return not self._draining.is_set() and self.registry.ready()

    def start(self) -> None:
        """Begins to listen, and to load; returns as soon as it listens."""
        self._health.tell(False)
        self._web.start()
        self._grpc.start()
        while not self._uvicorn.started and self._web.is_alive():
            time.sleep(0.01)
        self.registry.start()

    def stop(self, drain_seconds: float) -> bool:
        """Says that it is not ready, takes no more, and finishes what is under way.

        Args:
            drain_seconds: how long that may take.

        Returns:
            Whether all was finished.
        """
        deadline = time.monotonic() + drain_seconds
        self._draining.set()
        self._tell_health()
        self.registry.stop()
        self._uvicorn.config.timeout_graceful_shutdown = max(1, round(drain_seconds))
        self._uvicorn.should_exit = True
        finished = self._grpc.stop(drain_seconds)
        self._health.finish()
        done = finished.wait(drain_seconds + 1)
        self._web.join(max(0.0, deadline - time.monotonic()) + 1)
        return done and not self._web.is_alive()

    def _tell_health(self) -> None:
        # As one: a readiness found before the draining began must not be told after it.
        with self._telling:
            self._health.tell(self.ready())


def _uvicorn_config(rest: RestApi, settings: ServerSettings) -> uvicorn.Config:
    class Protocol(PatientProtocol):
        header_seconds = settings.limits.header_seconds

    tls: dict[str, Any] = {}
    if settings.tls is not None:
        chain, key = map(str, settings.tls)
        tls = {"ssl_certfile": chain, "ssl_keyfile": key}
    config = uvicorn.Config(
        rest.application(),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        # What fails is logged where it fails; uvicorn would add what callers sent.
        log_level="critical",
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        **tls,
    )
    try:
        config.load()
    except OSError as error:  # TLS errors are of this kind
        raise RunError(f"the certificate or its key cannot be used: {reason(error)}") from error
    return config


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # asyncio does so for sockets that it makes; else an answer's second packet waits 40 ms for
        # the caller to acknowledge the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        # Python's own words repeat the address.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else reason(error)
        raise RunError(f"cannot listen on {host}:{port}: {why}") from error


def _bind_grpc(server: grpc.Server, settings: ServerSettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    try:
        if settings.tls is None:
            return server.add_insecure_port(address)
        chain, key = (path.read_bytes() for path in settings.tls)
        return server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
    except RuntimeError as error:
        raise RunError(f"cannot listen on {address}: is the port taken?") from error
