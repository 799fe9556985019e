"""Who may ask: a token, encryption, other origins."""

import ssl
import subprocess

import grpc
import httpx
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.conftest import Running
from tests.serving.saved import write_echo
from zoo.serving import command
from zoo.serving.model_config import ServedModel

ORIGIN = "https://page.example"
PREDICT = "/v1/models/echo:predict"
BODY = {"instances": ["a"]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True,
    )  # fmt: skip
    return chain, key


@pytest.fixture(scope="module")
def guarded(certificate, tmp_path_factory):
    base = write_echo(tmp_path_factory.mktemp("guarded"), 1, "serving_default").parent
    models = [ServedModel("echo", base)]
    server = Running(models, token="secret", tls=certificate, origins=(ORIGIN,))
    server.http.close()
    server.http = httpx.Client(
        base_url=f"https://127.0.0.1:{server.server.rest_port}",
        verify=ssl.create_default_context(cafile=str(certificate[0])),
        timeout=60,
    )
    yield server.until(server.server.ready)
    server.close()


def test_rest_wants_the_token(guarded):
    for headers in ({}, {"authorization": "Bearer secre"}, {"authorization": "Bearer sécret"}):
        sent = {key: value.encode() for key, value in headers.items()}
        got = guarded.http.post(PREDICT, json=BODY, headers=sent)
        assert (got.status_code, list(got.json())) == (401, ["error"])
    for place in ("/v1/models", "/docs", "/openapi.json", "/monitoring/prometheus/metrics"):
        assert guarded.http.get(place).status_code == 401
    lower = {"authorization": "bearer secret"}
    assert guarded.http.post(PREDICT, json=BODY, headers=lower).status_code == 200
    right = {"authorization": "Bearer secret"}
    assert guarded.http.post(PREDICT, json=BODY, headers=right).status_code == 200
    assert guarded.http.get("/openapi.json", headers=right).json()["security"] == [{"token": []}]


def test_an_orchestrator_needs_none(guarded):
    assert guarded.http.get("/healthz").status_code == 200
    assert guarded.http.get("/readyz").status_code == 200


def test_grpc_wants_the_token_and_tls(guarded, certificate):
    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = "echo"
    asked.inputs["text"].CopyFrom(tf.make_tensor_proto(["a"]))
    with grpc.secure_channel(guarded.grpc, credentials) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for metadata in ([], [("authorization", "Bearer wrong")]):
            call = stub.Predict.future(asked, 60.0, metadata=metadata)
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        right = [("authorization", "Bearer secret")]
        assert stub.Predict(asked, 60.0, metadata=right).outputs["length"].int_val == [1]
        health = health_pb2_grpc.HealthStub(channel)
        got = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert got.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(guarded.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict.future(asked, 60.0).code() is grpc.StatusCode.UNAVAILABLE


def test_an_origin_that_may_ask_is_told_so_and_no_other(guarded):
    asks = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    got = guarded.http.options(PREDICT, headers=asks)
    assert got.headers["access-control-allow-origin"] == ORIGIN
    right = {"authorization": "Bearer secret"}
    got = guarded.http.post(PREDICT, json=BODY, headers=right | {"origin": ORIGIN})
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (200, ORIGIN)
    got = guarded.http.post(PREDICT, json=BODY, headers=right | {"origin": "https://b.example"})
    assert (got.status_code, "access-control-allow-origin" in got.headers) == (403, False)


def test_a_name_that_is_not_the_servers_is_refused(echo):
    server = Running([ServedModel("echo", echo.parent)], hosts=("localhost", "::1", "zoo.example"))
    try:
        server.until(server.server.ready)
        for name in ("localhost", "LOCALHOST:1", "[::1]:8501", "zoo.example:80"):
            got = server.http.post(PREDICT, json=BODY, headers={"host": name})
            assert got.status_code == 200, name
        for name in ("127.0.0.1", "rebound.example", "zoo.example.evil.example", "[::1", ""):
            got = server.http.post(PREDICT, json=BODY, headers={"host": name})
            assert (got.status_code, list(got.json())) == (403, ["error"]), name
        # What asks whether the server lives knows an address, and is told nothing else.
        assert server.http.get("/healthz", headers={"host": "10.0.0.7"}).status_code == 200
    finally:
        server.close()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ("localhost", "127.0.0.1", "::1")),
        (["--host=127.0.0.2"], ("localhost", "127.0.0.1", "::1", "127.0.0.2")),
        (["--host=0.0.0.0"], ()),
        (["--token_file=token"], ()),
        (["--allow_host=Zoo.example", "--allow_host=::2"], ("zoo.example", "::2")),
        (["--host=0.0.0.0", "--allow_host=a"], ("a",)),
        (["--allow_host=*"], ()),
    ],
)
def test_which_names_are_answered_to(arguments, names):
    own = command._flags()
    own(["zoo-serve", *arguments])
    command._check(own)
    assert command._hosts(own) == names
