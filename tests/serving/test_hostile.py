"""What strangers send gets a clear answer, and the next good request is answered."""

import gc
import json
import threading
import time

import grpc
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.wire import HEAD, PREDICT, connect, everything, said
from zoo.serving.failure import Failure, failure_of

pytestmark = pytest.mark.usefixtures("still_there")


def test_a_body_over_the_limit(running):
    got = running.http.post(PREDICT, json={"instances": ["a" * (1 << 17)]})
    assert (got.status_code, got.json()) == (413, {"error": "the body is over 65536 bytes"})
    chunks = (b"a" * 1000 for _ in range(100))
    got = running.http.post(PREDICT, content=chunks)
    assert (got.status_code, got.json()) == (413, {"error": "the body is over 65536 bytes"})


def test_a_body_that_never_ends_is_cut_off(running):
    with connect(running) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):
            connection.sendall(chunk * 1000)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"instances": ["\xff"]}', "not UTF-8"),
        (b'{"instances": ["a"]', "no JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "too deep"),
        (b'{"a":' * 10_000, "too deep"),
        (b"", "no JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", "no JSON"),
        (b'{"instances": ["\\ud800"], "inputs": 1}', "either"),
        (b"\xef\xbb\xbf{}", "no JSON"),
    ],
    ids=range(9),
)
def test_a_body_that_is_no_request(running, body, words):
    got = running.http.post(PREDICT, content=body)
    assert got.status_code == 400
    assert words in got.json()["error"]


def test_half_of_a_character_is_a_text_like_any_other(running):
    got = running.http.post(PREDICT, content=b'{"instances": ["\\ud800 film", "\\u0000"]}')
    assert got.status_code == 200


def test_more_rows_than_the_queue_holds(running):
    got = running.http.post(PREDICT, json={"instances": [""] * 501})
    assert (got.status_code, got.json()["error"]) == (400, "a request may have 500 rows, not 501")


def test_a_full_queue_says_so_at_once(running):
    codes = []

    def ask():
        got = running.http.post(PREDICT, json={"instances": ["film " * 20] * 400})
        codes.append((got.status_code, got.json().get("error", "")))

    callers = [threading.Thread(target=ask) for _ in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    refused = [error for code, error in codes if code == 429]
    assert {code for code, _ in codes} == {200, 429}
    assert all("the queue is full" in error for error in refused)


def test_a_body_that_does_not_come(running):
    with connect(running) as connection:
        connection.sendall(HEAD + b"Content-Length: 10\r\nConnection: close\r\n\r\n{")
        code, error = said(everything(connection))
    assert (code, error) == (408, "the body did not come within 1 seconds")


def test_a_fault_of_ours_is_logged_without_what_came(caplog):
    failure = failure_of(KeyError("line\nbreak"))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "line\nbreak" not in caplog.text
    assert "KeyError" in caplog.text


def test_rows_that_the_model_does_not_keep_apart_are_not_mixed_up(running):
    """Outputs that look like rows, and are none: callers together get their own all the same."""
    wrong = []

    def ask(caller):
        for turn in range(20):
            words = [f"{caller}-{turn}-{n}" for n in range(1 + caller % 3)]
            body = {"signature_name": "words", "inputs": [" ".join(words)]}
            got = running.http.post("/v1/models/echo:predict", json=body)
            if got.json() != {"outputs": words}:
                wrong.append((words, got.json()))

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("size", [1, 20_000], ids=["small", "large"])
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_refusals_hold_nothing_back(running, protocol, size):
    """A circle would keep each until Python looks for some: gRPC calls are open as long."""
    gc.collect()
    gc.disable()
    try:
        with grpc.insecure_channel(running.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            asked = predict_pb2.PredictRequest()
            asked.model_spec.name = "nobody"
            asked.inputs["text"].CopyFrom(tf.make_tensor_proto(["a" * size]))
            for _ in range(200):
                if protocol == "grpc":
                    code = stub.Predict.future(asked, 60.0).code()
                    assert code is grpc.StatusCode.NOT_FOUND
                else:
                    got = running.http.post(
                        "/v1/models/nobody:predict", json={"instances": ["a" * size]}
                    )
                    assert got.status_code == 404
        del asked
        kept = (Failure, predict_pb2.PredictRequest)
        found = [one for one in gc.get_objects() if type(one) in kept]
    finally:
        gc.enable()
    # One may be on its way still.
    assert len(found) < 5


def test_nor_does_what_a_model_fails_on(running):
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            body = {"signature_name": "failing", "instances": [10]}
            assert running.http.post("/v1/models/echo:predict", json=body).status_code == 400
        failures = [one for one in gc.get_objects() if type(one) is Failure]
    finally:
        gc.enable()
    assert len(failures) < 5


def test_a_thousand_connections(running):
    idle = [connect(running) for _ in range(1000)]
    try:
        got = running.http.get("/v1/models/reviews")
        assert got.status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_caller_who_hangs_up_leaves_no_rows_behind(running):
    body = json.dumps({"instances": ["film " * 20] * 300}).encode()
    for _ in range(5):
        with connect(running) as connection:
            head = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body)
    deadline = time.monotonic() + 60
    page = "/monitoring/prometheus/metrics"
    while "zoo_serving_queued_rows 0.0" not in running.http.get(page).text:
        assert time.monotonic() < deadline


# Names of the protocol's own, and any others, so that what is nearly right comes up too.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "b64", "ids"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]),
    JSON,
    max_size=3,
)
PLACES = [
    PREDICT,
    "/v1/models/reviews:classify",
    "/v1/models/classifier:classify",
    "/v1/models/classifier:regress",
    "/v1/models/echo:predict",
]
FIXED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FIXED
@given(place=st.sampled_from(PLACES), body=BODIES)
def test_any_json_is_answered_or_refused(running, place, body):
    got = running.http.post(place, content=json.dumps(body))
    assert got.status_code in (200, 400), got.text
    assert (got.status_code == 400) == (list(json.loads(got.text)) == ["error"])


SIZES = st.lists(st.integers(-2, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3)
TENSORS = st.builds(
    lambda dtype, sizes, text, ints, floats, content: tensor_pb2.TensorProto(
        dtype=dtype,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(
            dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in sizes]
        ),
        string_val=text,
        int_val=ints,
        float_val=floats,
        tensor_content=content,
    ),
    st.sampled_from([types_pb2.DT_STRING, types_pb2.DT_INT32, types_pb2.DT_FLOAT])
    | st.sampled_from(list(types_pb2.DataType.values())),
    SIZES,
    st.lists(st.binary(max_size=8), max_size=3),
    st.lists(st.integers(-5, 5), max_size=3),
    st.lists(st.floats(width=32), max_size=3),
    st.binary(max_size=8),
)


@FIXED
@given(
    name=st.sampled_from(["reviews", "echo", ""]) | st.text(max_size=5),
    signature=st.sampled_from(["", "sums", "tracks", "failing", "scores"]),
    tensors=st.dictionaries(
        st.sampled_from(["text", "ids", "features", "lengths"]), TENSORS, max_size=2
    ),
)
def test_any_tensors_are_answered_or_refused(running, name, signature, tensors):
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = name
    asked.model_spec.signature_name = signature
    for key, tensor in tensors.items():
        asked.inputs[key].CopyFrom(tensor)
    with grpc.insecure_channel(running.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        code = stub.Predict.future(asked, 60.0).code()
    codes = grpc.StatusCode
    assert code in (codes.OK, codes.INVALID_ARGUMENT, codes.NOT_FOUND)
