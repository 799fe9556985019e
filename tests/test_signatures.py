"""What an export can be asked besides its answers: to classify examples, and to explain itself."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis import prediction_log_pb2

from tests.exports import TEXTS, WORDS, assert_stock_ops_alone, make_trained
from zoo.attribution import attribution
from zoo.errors import UsageError
from zoo.explain import explain
from zoo.explain_signature import STEPS, explain_function
from zoo.export import export
from zoo.models import MODELS, FeatureInputs, TokenInputs
from zoo.saved_model_file import amend
from zoo.text import TextEncoder, TextSettings
from zoo.warmup import MOST_REQUESTS, write_warmup


@pytest.fixture(scope="module")
def trained():
    return make_trained("lstm_attention")  # the one that has gates and attention


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return export(trained, "tiny", tmp_path_factory.mktemp("saved_models"))


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    # Their module owns the variables.
    return dict(loaded.signatures) | {"owner": loaded}


def example(**features):
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def strings(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def numbers(*values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def read_proto(folder):
    return SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def warmup_of(folder):
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]


def test_examples_are_classified_as_their_texts_are(signatures):
    examples = [example(text=strings(text.encode()), other=numbers(1.0)) for text in TEXTS]
    found = signatures["classify"](inputs=tf.constant(examples))
    answer = signatures["serving_default"](text=tf.constant(TEXTS))
    np.testing.assert_allclose(found["scores"], answer["probabilities"], atol=1e-6)
    np.testing.assert_array_equal(found["classes"], [[b"negative", b"positive"]] * len(TEXTS))
    none = signatures["classify"](inputs=tf.zeros([0], tf.string))
    assert none["classes"].shape == none["scores"].shape == (0, 2)


def test_an_example_without_a_text_is_refused(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"text .* could not be found"):
        signatures["classify"](inputs=tf.constant([example(test=strings(b"a film"))]))


def test_each_signature_has_its_method_and_the_file_its_fingerprint(exported):
    (graph,) = read_proto(exported).meta_graphs
    methods = {name: signature.method_name for name, signature in graph.signature_def.items()}
    assert methods.pop("classify") == "tensorflow/serving/classify"
    assert set(methods) == {"serving_default", "logits", "explain", "__saved_model_init_op"}
    classify = graph.signature_def["classify"]
    assert set(classify.inputs) == {"inputs"}
    assert set(classify.outputs) == {"classes", "scores"}
    written = tf.saved_model.experimental.read_fingerprint(str(exported)).saved_model_checksum
    amend(exported, {"logits": "tensorflow/serving/predict"})
    again = tf.saved_model.experimental.read_fingerprint(str(exported)).saved_model_checksum
    assert written == again
    with pytest.raises(KeyError, match="missing"):
        amend(exported, {"missing": "tensorflow/serving/classify"})


def test_tracks_are_classified_too_and_are_not_explained(tmp_path):
    model = MODELS["lstm"](FeatureInputs(5), 2, size="small,units=3")
    folder = export(replace(make_trained(), model=model, encoder=None), "tracks", tmp_path)
    loaded = tf.saved_model.load(str(folder))
    assert "explain" not in loaded.signatures
    tracks = np.random.default_rng(0).normal(size=(2, 7, 5)).astype("float32")
    examples = [example(features=numbers(*track.ravel())) for track in (tracks[0], tracks[1, :3])]
    found = loaded.signatures["classify"](inputs=tf.constant(examples))
    answer = loaded.signatures["serving_default"](
        features=tf.constant(tracks), lengths=tf.constant([7, 3])
    )
    np.testing.assert_allclose(found["scores"], answer["probabilities"], atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["classify"](inputs=tf.constant([example(features=numbers(1.0, 2.0))]))
    for log in warmup_of(folder)[::4]:
        inputs = log.predict_log.request.inputs
        given = {name: tf.constant(tf.make_ndarray(inputs[name])) for name in inputs}
        assert loaded.signatures["serving_default"](**given)["label"].shape == (
            len(given["lengths"]),
        )


def test_the_warmup_can_be_answered(tmp_path):
    folder = export(make_trained("bag"), "tiny", tmp_path)
    loaded = tf.saved_model.load(str(folder))
    signatures, seen = loaded.signatures, set()
    for log in warmup_of(folder):
        request = log.predict_log.request
        assert request.model_spec.name == "tiny"
        texts = tf.constant(tf.make_ndarray(request.inputs["text"]))
        answer = signatures[request.model_spec.signature_name](text=texts)
        assert answer["label"].shape == texts.shape
        seen.add((request.model_spec.signature_name, len(texts), len(texts.numpy()[0].split())))
    rows = {rows for name, rows, _ in seen if name == "serving_default"}
    steps = {steps for name, _, steps in seen if name == "serving_default"}
    assert len(rows) > 1
    assert steps == {1, 13}
    assert ("explain", 1, 13) in seen


def test_more_requests_than_a_server_reads_are_refused(tmp_path):
    requests = [("serving_default", {})] * (MOST_REQUESTS + 1)
    with pytest.raises(ValueError, match="1001 requests"):
        write_warmup(tmp_path, "tiny", requests)
    assert not list(tmp_path.iterdir())


def test_an_export_explains_as_the_trained_model_is_explained(trained, signatures):
    assert_explained(trained, signatures["explain"](text=tf.constant(TEXTS)), STEPS)


@pytest.mark.parametrize("family", ["bag", "lstm", "bilstm", "min_lstm", "transformer"])
def test_every_family_explains_itself(family):
    trained = make_trained(family)
    function = explain_function(*parts_of(trained), steps=4)
    assert_explained(trained, function(tf.constant(TEXTS)), 4)


def parts_of(trained):
    """A model, its encoder, what gives its logits, and its classes."""

    def logits_of(text):
        return {"logits": trained.model({"ids": trained.encoder.encode_dense(text)})}

    return trained.model, trained.encoder, logits_of, trained.task.classes


def assert_explained(trained, answer, steps):
    found = {name: value.numpy() for name, value in answer.items()}
    inner = {name for name in found if name.startswith(("gates_", "attention_"))}
    for row, text in enumerate(TEXTS):
        alone = explain(trained, text, steps)
        count = len(alone.tokens)
        tokens = [token.decode() for token in found["tokens"][row]]
        assert tokens[:count] == list(alone.tokens)
        assert set(tokens[count:]) <= {""}
        shares = found["attribution"][row]
        np.testing.assert_allclose(shares[:count], alone.attributions, atol=1e-5, rtol=1e-4)
        assert not shares[count:].any()
        assert found["label"][row].decode() == alone.label
        assert found["completeness_error"][row] == pytest.approx(alone.completeness_error, abs=1e-5)
        for name, gates in alone.gates.items():
            column = found[f"gates_{name.replace(' ', '_')}"][row]  # float32[T, 4]
            means = list(gates.means.values())
            means += [np.ones(count)] if len(means) == 2 else []
            expected = np.stack([*means, gates.state_norm], axis=-1)
            np.testing.assert_allclose(column[:count], expected, atol=1e-5)
            assert not column[count:].any()
        for name, heads in alone.attention.items():
            weights = found[f"attention_{name}"][row]
            np.testing.assert_allclose(weights[:, :count, :count], heads, atol=1e-5)
            assert not weights[:, count:].any()
            assert not weights[:, :, count:].any()
        assert len(alone.gates) + len(alone.attention) == len(inner)


@pytest.mark.parametrize("texts", [[], ["é" * 100_000], [b"\xff\xfe\x00", "好"]])
def test_odd_texts_are_explained(signatures, texts):
    found = signatures["explain"](text=tf.constant(texts, tf.string))
    assert found["tokens"].shape == found["attribution"].shape
    assert found["completeness_error"].shape == (len(texts),)
    assert np.isfinite(found["attribution"]).all()


def test_who_loads_an_export_is_warned_of_nothing(exported, caplog):
    assert b"CustomGradient" not in (exported / "saved_model.pb").read_bytes()
    with caplog.at_level(logging.WARNING):
        loaded = tf.saved_model.load(str(exported))
    assert not caplog.records
    for signature in ("classify", "explain"):
        assert_stock_ops_alone(loaded, signature)


def test_bytes_that_are_no_character_are_shown_by_their_number():
    encoder = TextEncoder((), TextSettings("byte", max_length=13))
    model = MODELS["bag"](TokenInputs(encoder.num_ids), 2)
    parts = parts_of(replace(make_trained("bag"), model=model, encoder=encoder))
    function = explain_function(*parts, steps=1)
    tokens = function(tf.constant(["aé映", ""]))["tokens"].numpy().tolist()
    assert tokens == [[b"a", b"e", rb"\xe6", rb"\x98", rb"\xa0"], [b"[empty]", *[b""] * 4]]


def test_what_has_no_vectors_is_exported_without_explanations(tmp_path):
    trained = make_trained("nb_ngram")
    loaded = tf.saved_model.load(str(export(trained, "tiny", tmp_path)))
    assert set(loaded.signatures) == {"serving_default", "logits", "classify"}
    with pytest.raises(UsageError, match="has no Embedding"):
        attribution(trained.model, 1)


def test_an_export_need_not_explain(tmp_path):
    loaded = tf.saved_model.load(str(export(make_trained("bag"), "tiny", tmp_path, explain=False)))
    assert "explain" not in loaded.signatures
    assert loaded.signatures["serving_default"](text=tf.constant(WORDS))["label"].shape == (13,)
