"""The REST API, as TensorFlow Serving documents it, and what stands beside it over HTTP.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

import asyncio
import contextlib
import dataclasses
import functools
import hmac
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from zoo.serving import examples, json_codec, openapi, site, status
from zoo.serving.failure import Failure, failure_of, invalid, quoted
from zoo.serving.gathering import SMALL, GoOn, LoopPredictor, is_small
from zoo.serving.limits import Bodies, Limits, TooLarge, TooMany, TooSlow
from zoo.serving.metrics import Metrics
from zoo.serving.predict import Target

_LARGE_BODY = 1 << 18
_API = "/v1/"
# What asks a model whose name holds a slash, which the router takes for one of the address.
_NAME = re.compile(
    rb"/v1/models/[^/:]+(/versions/[0-9]+|/labels/[^/:]+)?:(predict|classify|regress)"
)

Handler = Callable[[Request], Awaitable[Response]]
Work = Callable[[Target, Any, GoOn], bytes]


class RestApi:
    """The handlers of one server.

    Args:
        predictor: what answers.
        metrics: what counts.
        limits: what a caller may ask.
        ready: whether the server is.
        token: what callers must show, if anything.
        origins: whose pages may ask, besides the server's own.
        hosts: names that callers may know the server by, in lower case; any if empty.
    """

    def __init__(
        self,
        predictor: LoopPredictor,
        metrics: Metrics,
        limits: Limits,
        ready: Callable[[], bool],
        token: str = "",
        origins: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._loop_predictor = predictor
        self._predictor = predictor.predictor
        self._metrics = metrics
        self._limits = limits
        self._ready = ready
        self._token = token
        self._origins = origins
        self._hosts = hosts
        self._bodies = Bodies(limits)
        self._under_way = 0
        # JSON becomes Python's objects, many times as large: so one large body after the other.
        self._parsing = threading.Lock()

    def application(self) -> Starlette:
        """What a web server runs."""
        # In the order of how often they are asked for: they are gone through one by one.
        routes = []
        for which in ("", "/versions/{version}", "/labels/{label}"):
            place = f"{_API}models/{{model}}{which}"
            for verb, ask in (
                ("predict", self._ask_to_predict),
                ("classify", functools.partial(self._ask, self._classify)),
                ("regress", functools.partial(self._ask, self._regress)),
            ):
                handler = self._guarded(verb.capitalize(), ask)
                routes.append(Route(f"{place}:{verb}", handler, methods=["POST"]))
            routes.append(Route(f"{place}/metadata", self._guarded("Metadata", self._metadata)))
            routes.append(Route(place, self._guarded("Status", self._status)))
        routes += [
            Route(f"{_API}models", self._guarded("List", self._list)),
            Route("/monitoring/prometheus/metrics", self._guarded("Metrics", self._page)),
            Route("/openapi.json", self._guarded("Describe", self._describe)),
            Route("/docs", self._guarded("Docs", self._docs)),
            Route("/healthz", self._alive),
            Route("/readyz", self._is_ready),
            *site.routes(),
        ]
        middleware = []
        if self._origins:
            middleware.append(
                Middleware(
                    CORSMiddleware,
                    allow_origins=self._origins,
                    allow_methods=["GET", "POST"],
                    allow_headers=["authorization", "content-type"],
                )
            )
        service = Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers={HTTPException: _no_such_place},
        )
        # It would send callers to whatever host they named, before they showed a token.
        service.router.redirect_slashes = False
        return service

    def _guarded(self, method: str, handler: Handler) -> Handler:
        """A handler whose caller may ask, whose failures are answers, and which is counted."""

        async def guarded(request: Request) -> Response:
            start, code = time.perf_counter(), "OK"
            self._under_way += 1
            try:
                self._admit(request)
                return await handler(request)
            except Exception as error:
                failure = failure_of(error)
                code = failure.code.name
                # What has not come yet is not waited for.
                unread = isinstance(failure, TooLarge | TooSlow)
                headers = {"connection": "close"} if unread else None
                answer = _error(failure.http_status, str(failure), headers)
                # Its traceback holds this very frame: a circle, in which the body would stay.
                del failure
                return answer
            finally:
                self._under_way -= 1
                seconds = time.perf_counter() - start
                model = request.path_params.get("model", "")
                self._metrics.observe("REST", method, model, code, seconds)

        return guarded

    def _admit(self, request: Request) -> None:
        if self._under_way > self._limits.requests:
            raise Failure(grpc.StatusCode.UNAVAILABLE, "too many requests at once")
        host = request.headers.get("host", "")
        # A stranger's name may lead to this address, and its pages would be of this origin.
        if self._hosts and _name(host) not in self._hosts:
            message = f"{quoted(host)} is no name of this server: --allow_host makes it one"
            raise Failure(grpc.StatusCode.PERMISSION_DENIED, message)
        origin = request.headers.get("origin")
        # The scheme may differ: a proxy may have taken the encryption off.
        own = origin is None or origin.partition("://")[2] == host
        if not own and not {origin, "*"}.intersection(self._origins):
            message = f"pages of {quoted(origin)} may not ask this server"
            raise Failure(grpc.StatusCode.PERMISSION_DENIED, message)
        if self._token:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.encode(), self._token.encode())
            if scheme.lower() != "bearer" or not same:
                raise Failure(grpc.StatusCode.UNAUTHENTICATED, "no token, or a wrong one")

    async def _ask(self, work: Work, request: Request) -> Response:
        async with self._bodies.read(request) as body:
            answer = await self._in_thread(work, request, body)
        return Response(answer, media_type="application/json")

    async def _ask_to_predict(self, request: Request) -> Response:
        async with self._bodies.read(request) as body:
            answer = None
            if len(body) <= SMALL:
                with contextlib.suppress(TooMany):  # filled up, it is not small
                    answer = await self._predict_here(request, body)
            if answer is None:
                answer = await self._in_thread(self._predict, request, body)
        return Response(answer, media_type="application/json")

    async def _in_thread(self, work: Work, request: Request, body: bytes) -> bytes:
        done = functools.partial(self._work, work, _target(request), body)
        return await self._loop_predictor.in_thread(done, functools.partial(_watched, request))

    async def _predict_here(self, request: Request, body: bytes) -> bytes:
        """Reads and writes on the event loop."""
        target, asked = _target(request), json_codec.parsed(body)
        elements = self._limits.elements
        answer = await self._loop_predictor.predict(
            _named(target, asked),
            lambda signature: json_codec.arrays_of(asked, signature, min(elements, SMALL)),
            watch=functools.partial(_watched, request),
            is_gone=functools.partial(_has_left, request),
        )
        rows = "instances" in asked
        if is_small(answer):
            return json_codec.answered(answer.outputs, rows, elements)
        return await self._loop_predictor.in_thread(
            lambda _: json_codec.answered(answer.outputs, rows, elements)
        )

    def _work(self, work: Work, target: Target, body: bytes, go_on: GoOn) -> bytes:
        asked = self._parsed(body)
        return work(_named(target, asked), asked, go_on)

    def _parsed(self, body: bytes) -> dict[str, Any]:
        if len(body) < _LARGE_BODY:
            return json_codec.parsed(body)
        with self._parsing:
            return json_codec.parsed(body)

    def _predict(self, target: Target, asked: dict[str, Any], go_on: GoOn) -> bytes:
        elements = self._limits.elements
        answer = self._predictor.predict(
            target,
            lambda signature: json_codec.arrays_of(asked, signature, elements),
            go_on=go_on,
        )
        return json_codec.answered(answer.outputs, "instances" in asked, elements)

    def _classify(self, target: Target, asked: dict[str, Any], go_on: GoOn) -> bytes:
        records = examples.records_of_json(asked)
        most = self._limits.unfolded_bytes
        _, rows = examples.classify(self._predictor, target, records, go_on, most)
        return json_codec.dumped({"results": rows})

    def _regress(self, target: Target, asked: dict[str, Any], go_on: GoOn) -> bytes:
        records = examples.records_of_json(asked)
        most = self._limits.unfolded_bytes
        _, values = examples.regress(self._predictor, target, records, go_on, most)
        return json_codec.dumped({"results": values})

    async def _status(self, request: Request) -> Response:
        message = status.model_status(self._predictor.registry, _target(request))
        return JSONResponse(status.as_json(message))

    async def _metadata(self, request: Request) -> Response:
        message = status.model_metadata(self._predictor, _target(request))
        return JSONResponse(status.as_json(message))

    async def _list(self, request: Request) -> Response:
        registry = self._predictor.registry
        listed = []
        for name in registry.names:
            message = status.model_status(registry, Target(name))
            listed.append({"name": name} | status.as_json(message))
        return JSONResponse({"models": listed})

    async def _page(self, request: Request) -> Response:
        return Response(self._metrics.page(), media_type=CONTENT_TYPE_LATEST)

    async def _describe(self, request: Request) -> Response:
        return JSONResponse(openapi.description(bool(self._token)))

    async def _docs(self, request: Request) -> Response:
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(openapi.page(bool(self._token)), headers=headers)

    async def _alive(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _is_ready(self, request: Request) -> Response:
        if self._ready():
            return JSONResponse({"status": "ready"})
        return _error(503, "not ready")


def _has_left(request: Request) -> bool:
    cycle = request.scope.get("state", {}).get("cycle")  # as `PatientProtocol` has it
    return cycle is not None and cycle.disconnected


@contextlib.contextmanager
def _watched(request: Request) -> Iterator[threading.Event]:
    """An event that is set when the caller of a request, whose body has come, has hung up."""
    gone = threading.Event()
    watch = asyncio.create_task(_until_gone(request, gone))
    try:
        yield gone
    finally:
        watch.cancel()


async def _until_gone(request: Request, gone: threading.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _name(host: str) -> str:
    """What a Host header names, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _target(request: Request) -> Target:
    place = request.path_params
    if any(":" in part for part in place.values()):
        raise _malformed(request)
    version = place.get("version")
    if version is None:
        return Target(place["model"], None, place.get("label", ""))
    # Of more digits, Python would read no number.
    if not re.fullmatch(r"[0-9]{1,19}", version) or int(version) >= 2**63:
        raise invalid(f"version {quoted(version[:40])} is no 64-bit number")
    return Target(place["model"], int(version))


def _named(target: Target, asked: dict[str, Any]) -> Target:
    """The target, with the signature that the body names."""
    return dataclasses.replace(target, signature=json_codec.signature_name(asked))


def _malformed(request: Request) -> Failure:
    """What TensorFlow Serving says of whatever is none of its addresses, with its method."""
    return invalid(f"malformed request: {request.method} {quoted(request.url.path)}")


async def _no_such_place(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    name = _NAME.fullmatch(request.scope["raw_path"])
    if request.url.path.startswith(_API) and not (name and request.method == "POST"):
        # TensorFlow Serving tells neither places from one another nor methods, below here.
        return _error(400, str(_malformed(request)))
    said = f"is not served by {request.method}" if code == 405 else "is not served"
    headers = error.headers if isinstance(error, HTTPException) else None
    return _error(code, f"{quoted(request.url.path)} {said}", headers)


def _error(code: int, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": message}, status_code=code, headers=headers)
