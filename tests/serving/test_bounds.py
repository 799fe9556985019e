"""What one caller asks costs no more than a bound: memory, threads and time."""

import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.conftest import Running
from zoo.serving.batching import BatchSettings
from zoo.serving.failure import Failure
from zoo.serving.http_protocol import PatientProtocol
from zoo.serving.limits import Limits
from zoo.serving.model_config import ServedModel
from zoo.serving.signatures import Spec
from zoo.serving.tensors import array_of
from zoo.serving.versions import Loaded

pytestmark = pytest.mark.usefixtures("still_there")


def test_a_context_is_not_copied_without_bound(running):
    place = "/v1/models/classifier:classify"
    body = {"context": {"text": "x" * 60_000}, "examples": [{}] * 400}
    got = running.http.post(place, json=body)
    assert (got.status_code, got.json()["error"]) == (
        400,
        "'context' in each example would come to more than 262144 bytes",
    )
    got = running.http.post("/v1/models/nobody:classify", json=body)
    assert got.status_code == 404
    got = running.http.post(place, json=body | {"examples": [{}] * 501})
    assert got.json()["error"] == "a request may have 500 rows, not 501"


def test_nor_is_that_of_a_grpc_request(running):
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name = "classifier"
    listed = asked.input.example_list_with_context
    listed.context.features.feature["text"].bytes_list.value.append(b"x" * 10_000)
    for _ in range(20):
        listed.examples.add()
    with grpc.insecure_channel(running.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert len(stub.Classify(asked, 60).result.classifications) == 20
        for _ in range(20):
            listed.examples.add()
        call = stub.Classify.future(asked, 60)
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "more than 262144 bytes" in call.details()


@pytest.fixture
def silent_calls():
    """Starts gRPC calls of Predict that never send their message."""
    done, channels = threading.Event(), []

    def start(running, count):
        def nothing():
            done.wait()
            yield from ()

        # A connection of its own; else all channels of a process share one.
        own = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(running.grpc, own)
        channels.append(channel)
        predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        return [predict.future(nothing()) for _ in range(count)]

    yield start
    done.set()
    for channel in channels:
        channel.close()


def test_a_text_of_ten_megabytes_is_refused_and_the_next_one_answered(echo):
    """By the limits that a server has unless it is told of others."""
    server = Running([ServedModel("echo", echo.parent)])
    server.until(server.server.ready)
    try:
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name = "echo"
        with grpc.insecure_channel(server.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for text, status, code in (
                (b"a" * 10_000_000, 413, grpc.StatusCode.RESOURCE_EXHAUSTED),
                (b"a", 200, grpc.StatusCode.OK),
            ):
                body = {"instances": [text.decode()]}
                assert server.http.post("/v1/models/echo:predict", json=body).status_code == status
                asked.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
                assert stub.Predict.future(asked, 60.0).code() is code
    finally:
        server.close()


def test_a_call_without_a_token_is_refused_before_its_message(echo, silent_calls):
    limits = Limits(requests=8, threads=12)
    guarded = Running([ServedModel("echo", echo.parent)], token="secret", limits=limits)
    try:
        for call in silent_calls(guarded, 6):
            assert call.exception(30).code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        guarded.close()


def test_a_message_that_does_not_come_holds_no_place(echo, silent_calls):
    limits = Limits(threads=4, body_seconds=0.5)
    server = Running([ServedModel("echo", echo.parent)], limits=limits)
    server.until(server.server.ready)
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = "echo"
    asked.inputs["text"].CopyFrom(tf.make_tensor_proto([b"a"]))
    try:
        # Two connections have half of the threads each.
        silent = silent_calls(server, 2) + silent_calls(server, 2)
        with grpc.insecure_channel(server.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert stub.Predict(asked, 30).outputs["text"].string_val == [b"a"]
            for call in silent:
                assert call.exception(30).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
            assert predict.future(iter([])).code() is grpc.StatusCode.INVALID_ARGUMENT
            assert predict.future(iter([b"\xff"])).code() is grpc.StatusCode.INTERNAL
    finally:
        server.close()


def test_watchers_of_health_leave_places_for_calls(echo):
    server = Running([ServedModel("echo", echo.parent)], limits=Limits(requests=8))
    server.until(server.server.ready)
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = "echo"
    asked.inputs["text"].CopyFrom(tf.make_tensor_proto([b"a"]))
    try:
        with grpc.insecure_channel(server.grpc) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
            for watch in watches:
                assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            refused = health.Watch(health_pb2.HealthCheckRequest())
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert stub.Predict(asked, 30).outputs["text"].string_val == [b"a"]
            for watch in watches:
                watch.cancel()
    finally:
        server.close()


def test_a_stream_that_is_no_reflection_is_refused_and_not_logged(running, caplog):
    with grpc.insecure_channel(running.grpc) as channel:
        name = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        call = channel.stream_stream(name)(iter([b"\xff"]))
        assert call.code() is grpc.StatusCode.INTERNAL
        assert call.details() == "the message is none that this method takes"
    assert not caplog.records


class Words(tf.Module):
    """Answers as many words as a text has, and how many texts it was shown at once."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def words(self, text):
        words = tf.strings.split(text).to_tensor()
        return {"words": words, "rows": tf.fill(tf.shape(text), tf.shape(text)[0])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def inflate(self, text):
        return {"text": tf.io.decode_compressed(text, "ZLIB")}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "1"
    module = Words()
    signatures = {"serving_default": module.words, "inflate": module.inflate}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def strings(values):
    return np.array([*values, None], object)[:-1]


def test_a_signature_without_queues_sees_few_rows_at_once(words):
    loaded, asked = Loaded(words, BatchSettings()), []
    texts = strings([b"a"] * 8 + [b"a b c"] * 8 + [b""] * 3)
    got = loaded.run(
        loaded.signatures["serving_default"], {"text": texts}, (), lambda: asked.append(1)
    )
    assert got["rows"].tolist() == [8] * 16 + [3] * 3
    rows = [[b"a", b"", b""]] * 8 + [[b"a", b"b", b"c"]] * 8 + [[b""] * 3] * 3
    assert got["words"].tolist() == rows
    assert len(asked) == 3
    loaded.close()


def test_an_answer_that_is_too_large_is_refused(words):
    loaded = Loaded(words, BatchSettings(), max_elements=100)
    signature, asked = loaded.signatures["serving_default"], []
    # Nine rows of twenty words; the last piece is not asked for any more.
    texts = strings([b"a"] * 8 + [b"a " * 20] + [b"a"] * 20)
    for rows in (texts, texts[8:9].repeat(6)):
        with pytest.raises(Failure, match="more than 100 elements: ask for fewer rows"):
            loaded.run(signature, {"text": rows}, (), lambda: asked.append(1))
    assert len(asked) == 3
    assert loaded.run(signature, {"text": texts}, ("rows",)).keys() == {"rows"}
    loaded.close()


def test_a_model_may_fail_on_rows_that_the_server_made_up(words):
    loaded = Loaded(words, BatchSettings())
    with pytest.raises(Failure) as caught:
        loaded.run(loaded.signatures["inflate"], {"text": strings([b" " * 256])})
    assert caught.value.code is not grpc.StatusCode.INVALID_ARGUMENT
    loaded.close()


@pytest.mark.parametrize(
    ("dtype", "sizes", "values", "words"),
    [
        ("string", (100,), [b"x" * 50], "unfolds to more than 1000 bytes"),
        ("int32", (0, 5000), [], "more than 1000 elements"),
    ],
)
def test_a_tensor_that_unfolds_to_much(dtype, sizes, values, words):
    dtype = tf.as_dtype(dtype)
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in sizes]
    proto = tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims),
        string_val=values,
    )
    with pytest.raises(Failure, match=words):
        array_of("x", proto, Spec(dtype, (None,) * len(sizes), "x:0"), 1000)


def test_who_does_not_read_is_given_up_on(running, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "write_seconds", 0.3)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", running.server.rest_port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        time.sleep(3)
        received = b""
        try:
            while chunk := connection.recv(1 << 20):
                received += chunk
        except ConnectionResetError:
            pass
        except TimeoutError:
            pytest.fail(f"still open after {len(received)} bytes")
    assert 0 < received.count(b"HTTP/1.1 200 OK") < 1000
