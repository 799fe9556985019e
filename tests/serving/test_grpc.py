"""The official stubs' way to a server, and what the services refuse."""

import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def channel(running):
    with grpc.insecure_channel(running.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request(name="reviews", signature="", wanted=(), **inputs):
    asked = predict_pb2.PredictRequest(output_filter=wanted)
    asked.model_spec.name = name
    asked.model_spec.signature_name = signature
    for key, value in inputs.items():
        asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return asked


def refused(call, code, words=""):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert (caught.value.code(), words in caught.value.details()) == (code, True), caught.value
    return caught.value.details()


def test_a_client_of_the_tutorial_reads_its_answer(prediction, exported):
    texts = ["The film was good!", "", "never again"]
    result = prediction.Predict.future(request(text=texts), 60.0).result()
    wanted = tf.saved_model.load(str(exported)).signatures["serving_default"](
        text=tf.constant(texts)
    )
    # As the tutorial's client reads it, which knows of no other field.
    values = np.array(result.outputs["probabilities"].float_val).reshape(3, 2)
    np.testing.assert_allclose(values, wanted["probabilities"], atol=1e-6)
    labels = tf.make_ndarray(result.outputs["label"])
    assert labels.tolist() == wanted["label"].numpy().tolist()
    spec = result.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("reviews", 1, "serving_default")


def test_outputs_are_filtered(prediction):
    result = prediction.Predict(request(text=["a"], wanted=["label"]), 60.0)
    assert list(result.outputs) == ["label"]
    bad = request(text=["a"], wanted=["scores"])
    refused(lambda: prediction.Predict(bad, 60.0), CODE.INVALID_ARGUMENT, "'scores'")
    bad = request(text=["a"], wanted=["label", "label"])
    refused(lambda: prediction.Predict(bad, 60.0), CODE.INVALID_ARGUMENT, "twice")


def test_versions_and_labels_are_chosen(prediction):
    asked = request("echo", text=[b"\xff\x00"])
    for label, number in (("stable", 1), ("canary", 2)):
        asked.model_spec.version_label = label
        result = prediction.Predict(asked, 60.0)
        assert result.model_spec.version.value == number
        assert tf.make_ndarray(result.outputs["version"]).tolist() == [number]
        assert list(result.outputs["text"].string_val) == [b"\xff\x00"]
        asked.model_spec.version.value = number
        assert prediction.Predict(asked, 60.0).model_spec.version.value == number
    asked.model_spec.version.value = 7
    refused(lambda: prediction.Predict(asked, 60.0), CODE.NOT_FOUND, "no version 7")
    asked.model_spec.version.value = -7
    refused(lambda: prediction.Predict(asked, 60.0), CODE.NOT_FOUND)
    asked.model_spec.version_label = "none"
    refused(lambda: prediction.Predict(asked, 60.0), CODE.INVALID_ARGUMENT, "canary")
    refused(lambda: prediction.Predict(request("../etc"), 60.0), CODE.NOT_FOUND, "'../etc'")


def test_batches_of_any_size_keep_their_order(prediction):
    texts = [b"film " * (row % 7 * 15) + str(row).encode() for row in range(100)]
    result = prediction.Predict(request("echo", text=texts), 60.0)
    assert list(result.outputs["text"].string_val) == texts
    assert list(result.outputs["length"].int_val) == [len(text) for text in texts]
    none = np.array([], object)
    result = prediction.Predict(request("echo", text=tf.constant(none, tf.string)), 60.0)
    assert [dim.size for dim in result.outputs["text"].tensor_shape.dim] == [0]


def test_tracks_come_as_packed_bytes_too(prediction):
    features = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    asked = request("echo", "tracks", features=features, lengths=np.array([3, 1], np.int32))
    assert asked.inputs["features"].tensor_content
    result = prediction.Predict(asked, 60.0)
    np.testing.assert_array_equal(tf.make_ndarray(result.outputs["sum"]), [[6, 9], [6, 7]])


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_calls_are_answered(running, compression):
    with grpc.insecure_channel(running.grpc, compression=compression) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        result = stub.Predict(request("echo", text=["a" * 10_000]), 60.0)
        assert list(result.outputs["length"].int_val) == [10_000]


def test_what_unfolds_over_the_limit_is_refused_and_the_next_call_answered(running):
    with grpc.insecure_channel(running.grpc, compression=grpc.Compression.Gzip) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        huge = request("echo", text=["a" * 50_000_000])
        refused(lambda: stub.Predict(huge, 60.0), CODE.RESOURCE_EXHAUSTED)
        assert stub.Predict(request("echo", text=["a"]), 60.0).outputs["length"].int_val == [1]


def test_a_deadline_that_is_over_is_said_so(prediction):
    # So many that no answer can be there before the caller's clock is looked at.
    many = request(text=["a b c d e"] * 400)
    refused(lambda: prediction.Predict(many, 1e-6), CODE.DEADLINE_EXCEEDED)


def test_a_cancelled_call_leaves_the_others_alone(prediction):
    calls = [prediction.Predict.future(request(text=["a"] * 400), 60.0) for _ in range(8)]
    for call in calls:
        call.cancel()
    assert prediction.Predict(request(text=["a"]), 60.0).outputs["label"].string_val


def test_callers_together_get_their_own_answers(prediction):
    wrong = []

    def ask(caller):
        for turn in range(10):
            texts = [f"{caller} {turn} ".encode() * (1 + 100 * (caller % 3))] * (1 + caller % 4)
            result = prediction.Predict(request("echo", text=texts), 60.0)
            if list(result.outputs["text"].string_val) != texts:
                wrong.append((caller, turn))

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_a_bad_row_fails_its_own_caller_alone(prediction):
    outcomes = {}

    def ask(caller):
        value = 10 if caller % 2 else caller
        try:
            asked = request("echo", "failing", ids=np.array([value], np.int32))
            outcomes[caller] = list(prediction.Predict(asked, 60.0).outputs["ids"].int_val)
        except grpc.RpcError as error:
            outcomes[caller] = error.code()

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert outcomes == {c: CODE.INVALID_ARGUMENT if c % 2 else [c] for c in range(10)}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(), "missing: 'text'"),
        (request(text=["a"], extra=[1]), "unknown: 'extra'"),
        (request(text=[1]), "takes string[?], not int32[1]"),
        (request(text=[["a"]]), "not string[1, 1]"),
        (request(text="a"), "not string[]"),
        (request(text=["a"], signature="none"), "no signature 'none'"),
        (request(text=["a"] * 600), "500 rows"),
    ],
    ids=range(7),
)
def test_what_does_not_fit_is_told_why(prediction, asked, words):
    refused(lambda: prediction.Predict(asked, 60.0), CODE.INVALID_ARGUMENT, words)


def test_a_tensor_that_stands_for_more_than_it_holds_is_refused(prediction):
    asked = request("echo", "tracks", lengths=np.array([1], np.int32))
    tensor = asked.inputs["features"]
    tensor.dtype = tf.float32.as_datatype_enum
    tensor.float_val.append(1)
    for size in (1 << 30, 1 << 30, 2):
        tensor.tensor_shape.dim.add(size=size)
    refused(lambda: prediction.Predict(asked, 60.0), CODE.INVALID_ARGUMENT, "elements")
    tensor.tensor_shape.dim[0].size = -1
    refused(lambda: prediction.Predict(asked, 60.0), CODE.INVALID_ARGUMENT, "no definite shape")
    tensor.tensor_shape.unknown_rank = True
    refused(lambda: prediction.Predict(asked, 60.0), CODE.INVALID_ARGUMENT, "no definite shape")
    tensor.dtype = 9999
    refused(lambda: prediction.Predict(asked, 60.0), CODE.INVALID_ARGUMENT)


def test_metadata(prediction):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "reviews"
    got = prediction.GetModelMetadata(asked, 60.0)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert got.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert set(default.outputs) == {"label", "probabilities"}
    assert got.model_spec.version.value == 1
    asked.metadata_field.append("weights")
    refused(lambda: prediction.GetModelMetadata(asked, 60.0), CODE.INVALID_ARGUMENT, "'weights'")


def test_status(model):
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "echo"
    got = [(v.version, v.state) for v in model.GetModelStatus(asked, 60.0).model_version_status]
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert got == [(2, available), (1, available)]
    asked.model_spec.version.value = 3
    refused(lambda: model.GetModelStatus(asked, 60.0), CODE.NOT_FOUND)
    reload = model_management_pb2.ReloadConfigRequest()
    refused(lambda: model.HandleReloadConfigRequest(reload, 60.0), CODE.UNIMPLEMENTED)


def test_classify_and_regress(prediction):
    example = tf.train.Example()
    example.features.feature["text"].bytes_list.value.append(b"four")
    given = input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example]))
    asked = classification_pb2.ClassificationRequest(input=given)
    asked.model_spec.name = "classifier"
    (row,) = prediction.Classify(asked, 60.0).result.classifications
    assert [(c.label, c.score) for c in row.classes] == [("long", 4.0), ("short", -4.0)]

    context = input_pb2.ExampleListWithContext(examples=[tf.train.Example()], context=example)
    regress = regression_pb2.RegressionRequest()
    regress.input.example_list_with_context.CopyFrom(context)
    regress.model_spec.name = "classifier"
    regress.model_spec.signature_name = "regress"
    assert [r.value for r in prediction.Regress(regress, 60.0).result.regressions] == [4.0]

    asked.model_spec.name = "reviews"
    refused(lambda: prediction.Classify(asked, 60.0), CODE.INVALID_ARGUMENT, "classify")
    asked.input.Clear()
    refused(lambda: prediction.Classify(asked, 60.0), CODE.INVALID_ARGUMENT, "no example")
    many = inference_pb2.MultiInferenceRequest()
    refused(lambda: prediction.MultiInference(many, 60.0), CODE.UNIMPLEMENTED)


def test_health_and_reflection(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
        got = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert got.status == health_pb2.HealthCheckResponse.SERVING
    unknown = health.Watch(health_pb2.HealthCheckRequest(service="made up"), timeout=60)
    states = [answer.status for answer in unknown]
    assert states == [health_pb2.HealthCheckResponse.SERVICE_UNKNOWN]
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "tensorflow.serving.PredictionService" in database.get_services()
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    assert "Predict" in service.methods_by_name
