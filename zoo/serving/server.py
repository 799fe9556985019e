"""Both protocols on their ports, from the first look at the folders to the last answer."""

import asyncio
import contextlib
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
from zoo.serving.gathering import LoopPredictor
from zoo.serving.grpc_services import make_server
from zoo.serving.health_service import Health
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
        batching, limits = settings.batching, settings.limits

        def load(folder: Path) -> Loaded:
            return Loaded(folder, batching, limits.elements)

        self.registry = Registry(models, load, settings.poll_seconds, say)
        queue = Queue(batching.max_queued)
        metrics = Metrics(self.registry, queue)
        predictor = Predictor(self.registry, queue)
        on_loop = LoopPredictor(predictor, batching, limits.threads)
        doors = (settings.token, settings.origins, settings.hosts)
        rest = RestApi(on_loop, metrics, limits, self.ready, *doors)
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(_bound(settings.host, settings.rest_port))
            config = _uvicorn_config(rest, settings)
            self._uvicorn = uvicorn.Server(config)
            self._loop = (config.get_loop_factory() or asyncio.new_event_loop)()
            undo.callback(self._loop.close)

            async def make() -> tuple[grpc.aio.Server, Health, int]:
                server, health = make_server(on_loop, metrics, limits, settings.token)
                return server, health, _bind_grpc(server, settings)

            # grpc's servers belong to the loop on which they are made.
            self._grpc, self._health, self.grpc_port = self._loop.run_until_complete(make())
            undo.pop_all()
        self.rest_port: int = self._socket.getsockname()[1]
        self._stopped = asyncio.Event()
        self._told: asyncio.Task[None] | None = None  # which else nothing would hold
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self.registry.on_change(self._tell_health)

    def ready(self) -> bool:
        """Whether every model has a version that answers, and the server is to stay."""
        return not self._draining.is_set() and self.registry.ready()

    def start(self) -> None:
        """Begins to listen, and to load; returns as soon as it listens.

        Raises:
            RunError: if it cannot.
        """
        self._thread.start()
        while not self._uvicorn.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._thread.is_alive():
            raise RunError("the server has ended before it began: its log says why")
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
        self.registry.stop()
        self._uvicorn.config.timeout_graceful_shutdown = max(1, round(drain_seconds))
        self._uvicorn.should_exit = True
        asyncio.run_coroutine_threadsafe(self._stop_grpc(drain_seconds), self._loop)
        self._thread.join(max(0.0, deadline - time.monotonic()) + 1)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._answer())

    async def _answer(self) -> None:
        """Both protocols, on one event loop: two threads would wait for each other's Python."""
        await self._health.tell(self.ready())
        await self._grpc.start()
        await self._uvicorn.serve([self._socket])
        await self._stopped.wait()

    async def _stop_grpc(self, drain_seconds: float) -> None:
        await self._health.tell(self.ready())
        self._health.finish()
        await self._grpc.stop(drain_seconds)
        self._stopped.set()

    def _tell_health(self) -> None:
        def begin() -> None:
            # Asked for on the loop: a readiness found before the draining is not told after it.
            self._told = asyncio.create_task(self._health.tell(self.ready()))

        with contextlib.suppress(RuntimeError):  # of a loop that has ended: nobody asks any more
            self._loop.call_soon_threadsafe(begin)


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
        # Who a proxy says is asking makes no difference here.
        proxy_headers=False,
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


def _bind_grpc(server: grpc.aio.Server, settings: ServerSettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    try:
        if settings.tls is None:
            return server.add_insecure_port(address)
        chain, key = (path.read_bytes() for path in settings.tls)
        return server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
    except RuntimeError as error:
        raise RunError(f"cannot listen on {address}: is the port taken?") from error
