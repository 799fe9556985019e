"""TensorFlow Serving's gRPC services, by its published stubs."""

import asyncio
import contextlib
import functools
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from zoo.serving import examples, health_service, status
from zoo.serving.failure import failure_of, invalid, quoted
from zoo.serving.gathering import SMALL, GoOn, LoopPredictor, is_small
from zoo.serving.limits import Limits, TooMany, check_answer
from zoo.serving.metrics import Metrics
from zoo.serving.predict import Answer, Target
from zoo.serving.signatures import Signature
from zoo.serving.tensors import array_of, proto_of

PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name

_UNREADABLE = "the message is none that this method takes"


@dataclass(frozen=True)
class _Refusal:
    """What a method returns in place of an answer.

    grpc keeps what `abort` raises, and so the frames that it comes from, until Python looks for
    circles: they must not hold the request.
    """

    code: grpc.StatusCode
    message: str


class _Service:
    """What both services share: failures become statuses, and calls are counted."""

    def __init__(self, predictor: LoopPredictor, metrics: Metrics, limits: Limits) -> None:
        self._loop_predictor = predictor
        self._predictor = predictor.predictor
        self._metrics = metrics
        self._limits = limits

    async def _answer(self, method: str, model: str, work: Callable[[], Awaitable[Any]]) -> Any:
        start, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            return await work()
        except asyncio.CancelledError:  # the caller has left, or its deadline is over
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # a caller is told in its protocol, whatever it was
            failure = failure_of(error)
            code, message = failure.code, str(failure)
            # Its traceback holds this very frame: a circle, in which the call would stay open.
            del failure
            return _Refusal(code, message)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.observe("GRPC", method, model, code.name, seconds)


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """`tensorflow.serving.PredictionService`."""

    async def Predict(self, request: Any, context: Any) -> Any:
        """Answers rows."""

        elements = self._limits.elements

        def read(signature: Signature, most: int = elements) -> dict[str, np.ndarray]:
            # Names first: `Signature.check` says what is wrong with them, all at once.
            known = signature.inputs
            return {
                key: array_of(key, proto, known[key], most) if key in known else np.empty(0)
                for key, proto in request.inputs.items()
            }

        async def work() -> Any:
            wanted = list(request.output_filter)
            if len(set(wanted)) < len(wanted):
                raise invalid("output_filter names an output twice")
            target = _target(request.model_spec)
            loop = self._loop_predictor
            answer = None
            if request.ByteSize() <= SMALL:
                read_here = functools.partial(read, most=min(elements, SMALL))
                with contextlib.suppress(TooMany):  # unfolded, it is not small
                    answer = await loop.predict(target, read_here, wanted)
            if answer is None:
                answer = await loop.in_thread(
                    lambda go_on: self._predictor.predict(target, read, wanted, None, go_on)
                )
            check_answer(answer.outputs.values(), elements)
            if is_small(answer):
                return _response(target, answer)
            return await loop.in_thread(lambda _: _response(target, answer))

        return await self._answer("Predict", request.model_spec.name, work)

    async def Classify(self, request: Any, context: Any) -> Any:
        """Answers examples with classes and scores."""

        def work(go_on: GoOn) -> Any:
            target, records = _target(request.model_spec), examples.records_of_proto(request.input)
            answer, rows = examples.classify(
                self._predictor, target, records, go_on, self._limits.unfolded_bytes
            )
            response = classification_pb2.ClassificationResponse()
            _fill(response.model_spec, target, answer)
            for row in rows:
                classes = response.result.classifications.add().classes
                for label, score in row:
                    classes.add(label=label, score=score)
            return response

        return await self._answer_in_thread("Classify", request, work)

    async def Regress(self, request: Any, context: Any) -> Any:
        """Answers examples with a number each."""

        def work(go_on: GoOn) -> Any:
            target, records = _target(request.model_spec), examples.records_of_proto(request.input)
            answer, values = examples.regress(
                self._predictor, target, records, go_on, self._limits.unfolded_bytes
            )
            response = regression_pb2.RegressionResponse()
            _fill(response.model_spec, target, answer)
            for value in values:
                response.result.regressions.add(value=value)
            return response

        return await self._answer_in_thread("Regress", request, work)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Says what a version can be asked."""

        async def work() -> Any:
            for asked in request.metadata_field:
                if asked != "signature_def":
                    raise invalid(f"no metadata is named {quoted(asked)}. Known: signature_def")
            if not request.metadata_field:
                raise invalid("metadata_field must hold signature_def")
            return status.model_metadata(self._predictor, _target(request.model_spec))

        return await self._answer("GetModelMetadata", request.model_spec.name, work)

    async def MultiInference(self, request: Any, context: Any) -> Any:
        """Is not served."""
        return _Refusal(grpc.StatusCode.UNIMPLEMENTED, "MultiInference is not served")

    async def _answer_in_thread(
        self, method: str, request: Any, work: Callable[[GoOn], Any]
    ) -> Any:
        return await self._answer(
            method,
            request.model_spec.name,
            lambda: self._loop_predictor.in_thread(work),
        )


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):
    """`tensorflow.serving.ModelService`."""

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Says how far a model's versions have come."""

        async def work() -> Any:
            return status.model_status(self._predictor.registry, _target(request.model_spec))

        return await self._answer("GetModelStatus", request.model_spec.name, work)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Is not served: callers do not choose what the server reads."""
        return _Refusal(grpc.StatusCode.UNIMPLEMENTED, "the configuration is read at the start")


class _Guarded(grpc.GenericRpcHandler):
    """A service's methods, for who shows the token, and sends a message within a time.

    Args:
        methods: the service's own.
        token: what callers must show, if anything.
        seconds: how long a message may take.
        places: of the calls that are worked on at once. The messages of others are not read yet, so
            that no more are held.
    """

    def __init__(self, methods: Any, token: str, seconds: float, places: asyncio.Semaphore) -> None:
        self._methods = methods
        self._wanted = f"Bearer {token}".encode() if token else b""
        self._seconds = seconds
        self._places = places
        # By their names, which are the service's: no caller makes any up.
        self._guarded: dict[str, Any] = {}

    def service(self, details: Any) -> Any:
        """The handler of a call, `None` if it is another service's."""
        handler = self._guarded.get(details.method)
        if handler is None:
            handler = self._methods.service(details)
            if handler is None:
                return None
            handler = self._guarded[details.method] = self._patient(handler)
        # As if for a stream of messages, so that none is waited for: it may never come.
        return handler if self._shown(details) else grpc.stream_stream_rpc_method_handler(_refuse)

    def _shown(self, details: Any) -> bool:
        if not self._wanted:
            return True
        metadata = details.invocation_metadata
        given = next((value for key, value in metadata if key == "authorization"), "")
        if isinstance(given, str):
            given = given.encode("utf-8", "replace")
        return hmac.compare_digest(given, self._wanted)

    def _patient(self, handler: Any) -> Any:
        """A handler of one message that is not waited for without end, as grpc itself would."""
        serializers = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:

            async def both(requests: Any, context: Any) -> Any:
                try:
                    async for answer in handler.stream_stream(requests, context):
                        yield answer
                except DecodeError:
                    await context.abort(grpc.StatusCode.INTERNAL, _UNREADABLE)

            return grpc.stream_stream_rpc_method_handler(both, *serializers)

        async def message(context: Any) -> Any:
            try:
                async with asyncio.timeout(self._seconds):
                    found = await context.read()
            except TimeoutError:
                why = f"the message did not come within {self._seconds:g} seconds"
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, why)
            except DecodeError:
                await context.abort(grpc.StatusCode.INTERNAL, _UNREADABLE)
            if found is grpc.aio.EOF:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call holds no message")
            return found

        if handler.response_streaming:

            async def many(_: Any, context: Any) -> None:
                async with self._places:
                    asked = await message(context)
                # It may last for days.
                await handler.unary_stream(asked, context)

            return grpc.stream_stream_rpc_method_handler(many, *serializers)

        async def one(_: Any, context: Any) -> Any:
            async with self._places:
                answer = await handler.unary_unary(await message(context), context)
            if isinstance(answer, _Refusal):
                await context.abort(answer.code, answer.message)
            return answer

        return grpc.stream_unary_rpc_method_handler(one, *serializers)


async def _refuse(requests: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or a wrong one")


class _Methods:
    """Takes the methods of some services, as a server does, and guards them.

    Args:
        server: where they go.
        token: as for `_Guarded`.
        limits: of messages; the services have the places of `limits.threads` together.
    """

    def __init__(self, server: grpc.aio.Server, token: str, limits: Limits) -> None:
        self._server = server
        self._guards = token, limits.body_seconds, asyncio.Semaphore(limits.threads)

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Adds them to the server."""
        guarded = tuple(_Guarded(methods, *self._guards) for methods in handlers)
        self._server.add_generic_rpc_handlers(guarded)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Does nothing: they would go round the guard, and are there already."""


def make_server(
    predictor: LoopPredictor, metrics: Metrics, limits: Limits, token: str = ""
) -> tuple[grpc.aio.Server, health_service.Health]:
    """A gRPC server with all services, not yet bound to a port, and its health.

    To be called on the event loop that it is to run on.

    Args:
        predictor: what answers.
        metrics: what counts.
        limits: what a caller may ask.
        token: what callers must show, if anything; for health checks they need not.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            # No one connection takes all the places.
            ("grpc.max_concurrent_streams", max(1, limits.threads // 2)),
            # Another server on the port is an error, not a partner.
            ("grpc.so_reuseport", 0),
            # A connection whose other end is gone is given up.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
        maximum_concurrent_rpcs=limits.requests,
    )
    methods: Any = _Methods(server, token, limits)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(predictor, metrics, limits), methods
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelService(predictor, metrics, limits), methods
    )
    # Strangers may watch, and must not take all the places.
    checks = health_service.Health((PREDICTION, MODEL), max(1, limits.requests // 4))
    open_to_all: Any = _Methods(server, "", limits)
    health_pb2_grpc.add_HealthServicer_to_server(checks, open_to_all)
    names = (PREDICTION, MODEL, health_service.NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        reflection.aio.ReflectionServicer(names), methods
    )
    return server, checks


def _target(spec: Any) -> Target:
    chosen = spec.WhichOneof("version_choice")
    number = spec.version.value if chosen == "version" else None
    label = spec.version_label if chosen == "version_label" else ""
    return Target(spec.name, number, label, spec.signature_name)


def _fill(spec: Any, target: Target, answer: Answer) -> None:
    spec.name = target.model
    spec.version.value = answer.version
    spec.signature_name = answer.signature.name


def _response(target: Target, answer: Answer) -> Any:
    response = predict_pb2.PredictResponse()
    _fill(response.model_spec, target, answer)
    for key, array in answer.outputs.items():
        response.outputs[key].CopyFrom(proto_of(array))
    return response
