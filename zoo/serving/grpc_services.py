"""TensorFlow Serving's gRPC services, by its published stubs."""

import hmac
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
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
from zoo.serving.failure import Failure, failure_of, invalid, quoted
from zoo.serving.limits import Limits, check_answer
from zoo.serving.metrics import Metrics
from zoo.serving.predict import Answer, Predictor, Target
from zoo.serving.signatures import Signature
from zoo.serving.tensors import array_of, proto_of

PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name


class _Service:
    """What both services share: failures become statuses, and calls are counted."""

    def __init__(self, predictor: Predictor, metrics: Metrics, limits: Limits) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._limits = limits

    def _answer(self, method: str, model: str, context: Any, work: Callable[[], Any]) -> Any:
        start, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            return work()
        except Exception as error:  # a caller is told in its protocol, whatever it was
            failure = failure_of(error)
            code, message = failure.code, str(failure)
            # Its traceback holds this very frame: a circle, in which the call would stay open.
            del failure
            context.abort(code, message)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.observe("GRPC", method, model, code.name, seconds)


class PredictionService(_Service, prediction_service_pb2_grpc.PredictionServiceServicer):
    """`tensorflow.serving.PredictionService`."""

    def Predict(self, request: Any, context: Any) -> Any:
        """Answers rows."""

        def read(signature: Signature) -> dict[str, np.ndarray]:
            # Names first: `Signature.check` says what is wrong with them, all at once.
            known = signature.inputs
            return {
                key: array_of(key, proto, known[key], self._limits.elements)
                if key in known
                else np.empty(0)
                for key, proto in request.inputs.items()
            }

        def work() -> Any:
            wanted = list(request.output_filter)
            if len(set(wanted)) < len(wanted):
                raise invalid("output_filter names an output twice")
            target = _target(request.model_spec)
            answer = self._predictor.predict(target, read, wanted, None, _waited_for(context))
            response = predict_pb2.PredictResponse()
            check_answer(answer.outputs.values(), self._limits.elements)
            _fill(response.model_spec, target, answer)
            for key, array in answer.outputs.items():
                response.outputs[key].CopyFrom(proto_of(array))
            return response

        return self._answer("Predict", request.model_spec.name, context, work)

    def Classify(self, request: Any, context: Any) -> Any:
        """Answers examples with classes and scores."""

        def work() -> Any:
            target, records = _target(request.model_spec), examples.records_of_proto(request.input)
            answer, rows = examples.classify(
                self._predictor, target, records, _waited_for(context), self._limits.unfolded_bytes
            )
            response = classification_pb2.ClassificationResponse()
            _fill(response.model_spec, target, answer)
            for row in rows:
                classes = response.result.classifications.add().classes
                for label, score in row:
                    classes.add(label=label, score=score)
            return response

        return self._answer("Classify", request.model_spec.name, context, work)

    def Regress(self, request: Any, context: Any) -> Any:
        """Answers examples with a number each."""

        def work() -> Any:
            target, records = _target(request.model_spec), examples.records_of_proto(request.input)
            answer, values = examples.regress(
                self._predictor, target, records, _waited_for(context), self._limits.unfolded_bytes
            )
            response = regression_pb2.RegressionResponse()
            _fill(response.model_spec, target, answer)
            for value in values:
                response.result.regressions.add(value=value)
            return response

        return self._answer("Regress", request.model_spec.name, context, work)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Says what a version can be asked."""

        def work() -> Any:
            for asked in request.metadata_field:
                if asked != "signature_def":
                    raise invalid(f"no metadata is named {quoted(asked)}. Known: signature_def")
            if not request.metadata_field:
                raise invalid("metadata_field must hold signature_def")
            return status.model_metadata(self._predictor, _target(request.model_spec))

        return self._answer("GetModelMetadata", request.model_spec.name, context, work)

    def MultiInference(self, request: Any, context: Any) -> Any:
        """Is not served."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "MultiInference is not served")


class ModelService(_Service, model_service_pb2_grpc.ModelServiceServicer):
    """`tensorflow.serving.ModelService`."""

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Says how far a model's versions have come."""

        def work() -> Any:
            return status.model_status(self._predictor.registry, _target(request.model_spec))

        return self._answer("GetModelStatus", request.model_spec.name, context, work)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Is not served: callers do not choose what the server reads."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the configuration is read at the start")


class _Token(grpc.ServerInterceptor):
    """Turns away who does not show the token; health checks need none."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}"

        def refuse(requests: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or a wrong one")

        # As if for a stream of messages, so that none is waited for: it may never come.
        self._refuse = grpc.stream_stream_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        given = next((v for k, v in details.invocation_metadata if k == "authorization"), "")
        if isinstance(given, str):
            given = given.encode("utf-8", "replace")
        right = hmac.compare_digest(given, self._wanted.encode())
        if right or details.method.startswith(f"/{health_service.NAME}/"):
            return continuation(details)
        return self._refuse


class _Patience(grpc.ServerInterceptor):
    """Gives up calls whose message does not come; each holds a thread as long as it is waited for.

    Args:
        seconds: how long a message may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        # In the order in which they are due.
        self._waiting: dict[object, tuple[float, Any]] = {}
        # One timer for all: a thread for each call would take longer than many a call.
        self._timer: threading.Timer | None = None

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        own = handler.unary_stream if handler.response_streaming else handler.unary_unary

        # As if for a stream of messages: grpc itself waits for a single one, and without end.
        def behave(requests: Any, context: Any, *more: Any) -> Any:
            return own(self._message(requests, context), context, *more)

        if getattr(own, "experimental_non_blocking", False):
            vars(behave)["experimental_non_blocking"] = True
        make = grpc.stream_unary_rpc_method_handler
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler
        return make(behave, handler.request_deserializer, handler.response_serializer)

    def _message(self, requests: Any, context: Any) -> Any:
        place = object()
        with self._lock:
            self._waiting[place] = (time.monotonic() + self._seconds, context)
            if self._timer is None:
                self._look_again(self._seconds)
        try:
            message = next(requests, None)
        finally:
            with self._lock:
                self._waiting.pop(place, None)
        if message is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call holds no message")
        return message

    def _give_up(self) -> None:
        now, overdue = time.monotonic(), []
        with self._lock:
            self._timer = None
            for due, context in self._waiting.values():
                if due > now:
                    self._look_again(due - now)
                    break
                overdue.append(context)
        for context in overdue:
            context.cancel()

    def _look_again(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._give_up)
        self._timer.daemon = True
        self._timer.start()


def make_server(
    predictor: Predictor, metrics: Metrics, limits: Limits, token: str = ""
) -> tuple[grpc.Server, health_service.Health]:
    """A gRPC server with all services, not yet bound to a port, and its health.

    Args:
        predictor: what answers.
        metrics: what counts.
        limits: what a caller may ask.
        token: what callers must show, if anything.
    """
    server = grpc.server(
        ThreadPoolExecutor(limits.threads, "grpc"),
        interceptors=[*([_Token(token)] if token else []), _Patience(limits.body_seconds)],
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            # No one connection takes all the threads.
            ("grpc.max_concurrent_streams", max(1, limits.threads // 2)),
            # Another server on the port is an error, not a partner.
            ("grpc.so_reuseport", 0),
            # A connection whose other end is gone is given up.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
        maximum_concurrent_rpcs=limits.requests,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(predictor, metrics, limits), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelService(predictor, metrics, limits), server
    )
    checks = health_service.Health((PREDICTION, MODEL))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (PREDICTION, MODEL, health_service.NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
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


def _waited_for(context: Any) -> Callable[[], None]:
    def go_on() -> None:
        if not context.is_active():
            raise Failure(grpc.StatusCode.CANCELLED, "the caller waits no more")

    return go_on
