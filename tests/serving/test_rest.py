"""REST as TensorFlow Serving documents it; what it leaves open, as a caller would expect it."""

import base64
import json
import math
import socket
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.conftest import Running
from zoo.serving.failure import Failure
from zoo.serving.model_config import ServedModel
from zoo.serving.predict import Admitted

PREDICT = "/v1/models/reviews:predict"
ECHO = "/v1/models/echo"


def ask(running, path, **body):
    # Not httpx's json=: that refuses NaN, which this protocol writes.
    return running.http.post(path, content=json.dumps(body))


def answer(running, path, **body):
    got = ask(running, path, **body)
    assert got.status_code == 200, got.text
    assert got.headers["content-type"] == "application/json"
    return json.loads(got.text)


def refusal(running, path, **body):
    got = ask(running, path, **body)
    assert list(got.json()) == ["error"]
    return got.status_code, got.json()["error"]


def test_rows_are_answered_as_the_saved_model_does(running, exported):
    texts = ["The film was good!", "", "never again " * 300]
    given = answer(running, PREDICT, instances=texts)["predictions"]
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    wanted = serve(text=tf.constant(texts))
    assert [row["label"].encode() for row in given] == wanted["label"].numpy().tolist()
    probabilities = [row["probabilities"] for row in given]
    np.testing.assert_allclose(probabilities, wanted["probabilities"], atol=1e-6)


def test_rows_and_columns_say_the_same(running):
    rows = answer(running, PREDICT, instances=[{"text": "good"}, {"text": "bad"}])["predictions"]
    columns = answer(running, PREDICT, inputs={"text": ["good", "bad"]})["outputs"]
    assert columns == {key: [row[key] for row in rows] for key in ("label", "probabilities")}
    assert answer(running, PREDICT, inputs=["good", "bad"])["outputs"] == columns


def test_one_output_stands_bare(running):
    rows = answer(running, PREDICT, signature_name="logits", instances=["good"])["predictions"]
    assert len(rows) == 1
    assert len(rows[0]) == 2
    columns = answer(running, PREDICT, signature_name="logits", inputs=["good"])["outputs"]
    assert columns == rows


def test_bytes_come_and_go_as_base64(running):
    odd = base64.b64encode(b"\xff\x00film").decode()
    rows = answer(running, f"{ECHO}:predict", instances=[{"b64": odd}, {"text": {"b64": odd}}][:1])
    assert rows["predictions"] == [{"version": 2, "length": 6, "text": {"b64": odd}}]
    named = answer(running, f"{ECHO}:predict", instances=[{"text": {"b64": odd}}])
    assert named == rows


def test_numbers_are_as_short_as_their_precision_allows_and_nan_stands_bare(running):
    got = ask(running, f"{ECHO}:predict", signature_name="scores", instances=["", "film"])
    assert got.text == '{"predictions":[NaN,Infinity]}'
    features = [[[0.1, 1e9]]]
    body = {"features": features, "lengths": [1]}
    got = ask(running, f"{ECHO}:predict", signature_name="tracks", inputs=body)
    assert got.text == '{"outputs":[[0.1,1000000000.0]]}'


def test_numbers_that_are_none_are_taken_in_too(running):
    rows = [{"features": [[math.nan, -math.inf]], "lengths": 1}]
    (row,) = answer(running, f"{ECHO}:predict", signature_name="tracks", instances=rows)[
        "predictions"
    ]
    assert math.isnan(row[0])
    assert row[1] == -math.inf


def test_uneven_rows_are_filled_up_with_zeros_at_their_end(running):
    rows = [[5], [1, 2, 3], []]
    got = answer(running, f"{ECHO}:predict", signature_name="sums", inputs=rows)["outputs"]
    assert got == {"sum": [5, 6, 0], "steps": [3]}
    tracks = [
        {"features": [[1, 2], [3, 4]], "lengths": 2},
        {"features": [[5, 6]], "lengths": 1},
    ]
    got = answer(running, f"{ECHO}:predict", signature_name="tracks", instances=tracks)
    assert got["predictions"] == [[4, 6], [5, 6]]


def test_no_rows_get_no_answers(running):
    assert answer(running, PREDICT, instances=[]) == {"predictions": []}
    assert answer(running, PREDICT, inputs=[])["outputs"] == {"label": [], "probabilities": []}


@pytest.mark.parametrize(
    ("which", "version"),
    [("", 2), ("/versions/1", 1), ("/versions/2", 2), ("/labels/stable", 1), ("/labels/canary", 2)],
)
def test_a_version_or_a_label_is_chosen(running, which, version):
    (row,) = answer(running, f"{ECHO}{which}:predict", instances=["a"])["predictions"]
    assert row["version"] == version
    spec = running.http.get(f"{ECHO}{which}/metadata").json()["model_spec"]
    assert spec == {"name": "echo", "signature_name": "", "version": str(version)}


def test_metadata_tells_the_signatures(running):
    got = running.http.get("/v1/models/reviews/metadata").json()["metadata"]["signature_def"]
    default = got["signature_def"]["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["inputs"]["text"]["dtype"] == "DT_STRING"
    assert default["outputs"]["probabilities"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }


def test_status_and_list(running):
    fine = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = [{"version": "2"} | fine, {"version": "1"} | fine]
    assert running.http.get(ECHO).json() == {"model_version_status": both}
    assert running.http.get(f"{ECHO}/labels/stable").json()["model_version_status"] == both[1:]
    assert running.http.get(f"{ECHO}/versions/2").json()["model_version_status"] == both[:1]
    listed = running.http.get("/v1/models").json()["models"]
    assert [model["name"] for model in listed] == ["classifier", "echo", "reviews"]
    assert listed[1]["model_version_status"] == both


def test_classify_and_regress(running):
    path = "/v1/models/classifier"
    rows = [{"text": "four"}, {"text": {"b64": base64.b64encode(b"\xff").decode()}}]
    assert answer(running, f"{path}:classify", examples=rows) == {
        "results": [[["long", 4], ["short", -4]], [["long", 1], ["short", -1]]]
    }
    got = answer(
        running, f"{path}:regress", signature_name="regress", examples=[{}], context={"text": "ab"}
    )
    assert got == {"results": [2]}
    code, error = refusal(running, f"{path}:regress", examples=rows)
    assert code == 400
    assert "tensorflow/serving/regress" in error


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_a_model_without_such_a_signature_says_so(running, verb):
    code, error = refusal(running, f"/v1/models/reviews:{verb}", examples=[{"text": "a"}])
    assert code == 400
    assert f"tensorflow/serving/{verb}" in error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "either"),
        ({"instances": [], "inputs": []}, "either"),
        ({"instance": []}, "unknown key 'instance'"),
        ({"instances": "a"}, "'instances' must be a list"),
        ({"instances": [1]}, "takes string[?], not a number"),
        ({"instances": [None]}, "not null"),
        ({"instances": [["a"]]}, "not a list"),
        ({"instances": [{"text": "a"}, "b"]}, "instance 1 has no names"),
        ({"instances": [{"text": "a"}, {"txt": "b"}]}, "instances 0 and 1 differ"),
        ({"instances": [{"txt": "a"}]}, "missing: 'text'; unknown: 'txt'"),
        ({"instances": [{"b64": "YQ="}]}, "is no base64"),
        ({"instances": [{"b64": "ü"}]}, "is no base64"),
        ({"inputs": "a"}, "a string is not a list"),
        ({"inputs": {}}, "missing: 'text'"),
        ({"signature_name": 7, "inputs": []}, "must be a string"),
        ({"signature_name": "none", "inputs": []}, "no signature 'none'"),
        ({"signature_name": "a\nb" * 999, "inputs": []}, "'a\\\\nb"),
    ],
    ids=range(17),
)
def test_what_is_no_request_is_told_why(running, body, words):
    code, error = refusal(running, PREDICT, **body)
    assert code == 400
    assert words in error.replace("\\n", "\\\\n")
    assert len(error) < 1000


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("sums", [[1.5]], "takes int32[?, ?], not a number"),
        ("sums", [[True]], "not true or false"),
        ("sums", [["1"]], "not a string"),
        ("sums", [[2**31]], "too large"),
        ("sums", [[10**400]], "too large"),
        ("sums", [1], "a number is not a list"),
        ("sums", [[[1]]], "not a list"),
        ("sums", [[1] * 300] + [[]] * 400, "more than 65536 elements"),
        ("tracks", {"features": [[[1, 2, 3]]], "lengths": [1]}, "takes float32[?, ?, 2]"),
        ("tracks", {"features": [[[1, 2], [3]]], "lengths": [1]}, "another length"),
        ("tracks", {"features": [[[1, 2]]], "lengths": [1, 1]}, "differ in their number of rows"),
        ("tracks", {"features": [[[1e39, 2]]], "lengths": [1]}, "too large"),
        ("tracks", [[[1, 2]]], "so name them"),
        ("failing", [1, 10], "ids run up to 9"),
    ],
    ids=range(14),
)
def test_what_does_not_fit_the_signature_is_told_why(running, signature, inputs, words):
    code, error = refusal(running, f"{ECHO}:predict", signature_name=signature, inputs=inputs)
    assert (code, words in error) == (400, True), error


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/models/nobody:predict", 404),
        ("/v1/models/echo/versions/7:predict", 404),
        ("/v1/models/echo/versions/99999999999999999999:predict", 400),
        ("/v1/models/echo/versions/abc:predict", 400),
        (f"/v1/models/echo/versions/{'1' * 5000}:predict", 400),
        ("/v1/models/echo/versions/-1:predict", 400),
        ("/v1/models/echo/versions/1.0:predict", 400),
        ("/v1/models/echo/versions/:predict", 400),
        ("/v1/models/echo:predict/", 400),
        ("/v1/models/echo:predict:predict", 400),
        ("/v1/models/:predict", 400),
        ("/v1/models/echo/labels/stable/versions/1:predict", 400),
        ("/v1/models/echo/labels/none:predict", 400),
        ("/v1/models/echo/labels/lost:predict", 404),
        ("/v1/models/..%2F..%2Fetc:predict", 404),
        ("/v1/models/%00%0A:predict", 404),
        ("/v1/models/echo:explode", 400),
        ("/v1/models/echo:PREDICT", 400),
        ("/v1/models/echo", 400),
        ("/v1/models/echo/metadata", 400),
        ("/v1/models", 400),
        ("/v1/", 400),
        ("/v1", 404),
        ("/nowhere", 404),
        ("/healthz", 405),
    ],
)
def test_what_is_not_there_is_no_answer(running, path, code):
    """The statuses of TensorFlow Serving, whose addresses below /v1/ are well formed or 400."""
    assert refusal(running, path, instances=["a"])[0] == code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/echo:predict"),
        ("GET", "/v1/models/echo:nothing"),
        ("GET", "/v1/models/echo/versions/1:predict"),
        ("GET", "/v1/models/echo/metadata/more"),
        ("GET", "/v1/models/echo/"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/other"),
        ("PUT", "/v1/models/echo:predict"),
        ("DELETE", "/v1/models/echo"),
    ],
)
def test_an_address_of_no_such_form_is_a_malformed_request(running, method, path):
    got = running.http.request(method, path)
    assert (got.status_code, list(got.json())) == (400, ["error"])
    assert got.json()["error"] == f"malformed request: {method} '{path}'"


def test_metrics_count_what_was_asked_and_keep_no_name_that_a_caller_made_up(running):
    ask(running, "/v1/models/made-up:predict", instances=[])
    ask(running, PREDICT, instances=["a"])
    page = running.http.get("/monitoring/prometheus/metrics").text
    assert 'code="OK",method="Predict",model="reviews",protocol="REST"' in page
    assert 'code="NOT_FOUND",method="Predict",model="",protocol="REST"' in page
    assert "made-up" not in page
    assert 'zoo_serving_versions{model="echo",state="AVAILABLE"} 2.0' in page
    assert "zoo_serving_queued_rows 0.0" in page


def test_the_description_names_every_route_and_the_page_fetches_nothing(running):
    document = running.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        place = path.format(model="echo", version=1, label="stable")
        for verb in operations:
            got = running.http.request(verb, place, content="{}")
            assert str(got.status_code) in operations[verb]["responses"], (path, got.text)
    page = running.http.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_pages_of_others_may_not_ask(running):
    own = f"http://{running.http.base_url.host}:{running.http.base_url.port}"
    assert running.http.get(ECHO, headers={"origin": own}).status_code == 200
    got = running.http.get(ECHO, headers={"origin": "https://elsewhere.example"})
    assert (got.status_code, list(got.json())) == (403, ["error"])
    assert "access-control-allow-origin" not in got.headers


def test_no_packet_waits_for_another_one_to_be_acknowledged(running):
    listener = running.server._socket
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_caller_that_hangs_up_is_not_worked_for(echo, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    def run(request, go_on, wanted=()):
        begun.set()
        while not ended.wait(0.01):
            try:
                go_on()
            except Failure:
                ended.set()
                raise

    monkeypatch.setattr(Admitted, "run", run)
    server = Running([ServedModel("echo", echo.parent)])
    server.until(server.server.ready)
    try:
        # More than share one batch, which is all that a gathered request has.
        body = json.dumps({"instances": ["a"] * 100}).encode()
        head = f"POST /v1/models/echo:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", server.server.rest_port)) as caller:
            caller.sendall(head.encode() + b"\r\n\r\n" + body)
            assert begun.wait(60)
            assert not ended.wait(0.2)
        assert ended.wait(60)
    finally:
        ended.set()
        server.close()
