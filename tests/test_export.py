"""What leaves the zoo must answer anything, anywhere, as the model did in training."""

import functools
import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.exports import (
    FRESH,
    TEXTS,
    WORDS,
    assert_stock_ops_alone,
    make_trained,
    run_python,
)
from zoo import export as export_module
from zoo.errors import RunError, UsageError
from zoo.export import (
    Servable,
    load_servable,
    versions,
)
from zoo.layers import LSTM
from zoo.models import MODELS, FeatureInputs

# What explains is written for no test but its own: it takes longer than all else.
export = functools.partial(export_module.export, explain=False)

ODD = [
    ["", "", ""],
    [b"\xff\xfe\x00\x80", "café", "cafe\u0301"],
    [b"\x00", "\n\t ", "<br /><br />"],
    ["film " * 200_000],
    ["é" * 1_000_000],
    [],
]


@pytest.fixture(scope="module", params=sorted(MODELS))
def trained(request):
    return make_trained(request.param)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return export(trained, "tiny", tmp_path_factory.mktemp("saved_models"))


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def bilstm():
    return make_trained()


def expected_probabilities(trained, texts):
    """The way of training: ids first, each text in a batch of its own, then the Keras model."""
    rows = []
    for text in texts:
        ids = trained.encoder(tf.constant([text])).to_tensor()
        rows.append(tf.nn.softmax(trained.model({"ids": ids}, training=False)).numpy()[0])
    return np.array(rows)


def serve(loaded, texts):
    return loaded.signatures["serving_default"](text=tf.constant(texts, tf.string))


def test_probabilities_are_those_of_training(trained, loaded):
    expected = expected_probabilities(trained, TEXTS)
    together = serve(loaded, TEXTS)
    np.testing.assert_allclose(together["probabilities"], expected, atol=1e-5)
    for text, row in zip(TEXTS, expected, strict=True):
        np.testing.assert_allclose(serve(loaded, [text])["probabilities"][0], row, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = serve(loaded, [TEXTS[i] for i in order])["probabilities"]
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-5)


def test_labels_are_the_most_probable_class(loaded):
    answer = serve(loaded, TEXTS)
    names = np.array([b"negative", b"positive"])
    np.testing.assert_array_equal(
        answer["label"], names[answer["probabilities"].numpy().argmax(-1)]
    )
    np.testing.assert_allclose(answer["probabilities"].numpy().sum(-1), 1, atol=1e-6)


def test_second_signature_gives_logits(trained, loaded):
    logits = loaded.signatures["logits"](text=tf.constant(TEXTS))["logits"]
    expected = expected_probabilities(trained, TEXTS)
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=1e-5)


@pytest.mark.parametrize("texts", ODD, ids=range(len(ODD)))
def test_odd_texts_get_an_answer(loaded, texts):
    answer = serve(loaded, texts)
    assert answer["probabilities"].shape == (len(texts), 2)
    assert answer["label"].shape == (len(texts),)
    assert np.isfinite(answer["probabilities"]).all()


def test_graph_holds_stock_ops_alone(loaded):
    assert_stock_ops_alone(loaded)


def test_graph_holds_no_gradient(exported):
    """With them it is several times as large, and a process that loads it is warned of each."""
    assert b"CustomGradient" not in (exported / "saved_model.pb").read_bytes()


def test_a_gradient_of_an_export_is_refused():
    model = MODELS["lstm"](FeatureInputs(5), 3)
    servable = Servable(model, None, ("one", "two", "three"))
    features, lengths = tf.ones((2, 7, 5)), tf.constant([7, 3])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = servable.logits(features, lengths)["logits"]
        return tape.gradient(logits, features)

    with pytest.raises(LookupError, match="made to answer alone"):
        gradient()


def test_fresh_process_without_this_package_gives_the_same(bilstm, tmp_path):
    folder = export(bilstm, "tiny", tmp_path)
    done = run_python(["-c", FRESH, folder, json.dumps(TEXTS)], tmp_path)
    found = json.loads(done.stdout)
    np.testing.assert_allclose(found, expected_probabilities(bilstm, TEXTS), atol=1e-5)


def test_the_example_of_the_readme_runs(bilstm, tmp_path):
    export(bilstm, "tiny", tmp_path)
    script = Path(__file__).parents[1] / "saved_models" / "serve_example.py"
    lines = run_python([script, tmp_path / "tiny"], tmp_path).stdout.splitlines()
    assert len(lines) == 3
    assert {line.split()[0] for line in lines} <= {"negative", "positive"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give one folder"),
        (["a", "b"], 2, "give one folder"),
        (["missing"], 1, "missing holds no SavedModel"),
        (["empty"], 1, "empty holds no SavedModel"),
        (["other"], 1, "other holds no SavedModel"),
        (["other/file"], 1, "other/file holds no SavedModel"),
    ],
)
def test_the_example_of_the_readme_says_what_it_lacks(tmp_path, arguments, code, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "1").mkdir(parents=True)
    (tmp_path / "other" / "file").write_text("")
    script = Path(__file__).parents[1] / "saved_models" / "serve_example.py"
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("family", ["bilstm", "transformer"])
def test_features_and_lengths(family, tmp_path):
    keras.utils.set_random_seed(3)
    model = MODELS[family](FeatureInputs(5), 3)
    servable = Servable(model, None, ("one", "two", "three"))
    tf.saved_model.save(servable, str(tmp_path), signatures={"serving_default": servable.serve})
    serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    features = np.random.default_rng(0).normal(size=(2, 7, 5)).astype("float32")
    lengths = np.array([7, 3], "int32")
    answer = serve(features=tf.constant(features), lengths=tf.constant(lengths))
    expected = tf.nn.softmax(model({"features": features, "lengths": lengths}))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    for rows, steps in ((0, 7), (2, 0)):
        empty = serve(features=tf.zeros((rows, steps, 5)), lengths=tf.zeros((rows,), tf.int32))
        assert empty["probabilities"].shape == (rows, 3)
        assert np.isfinite(empty["probabilities"]).all()


@pytest.mark.parametrize("family", ["lstm", "bilstm"])
def test_an_export_holds_no_op_that_needs_a_gpu(family, monkeypatch):
    calls = []

    def record(*_, **__):
        calls.append(family)
        raise NotImplementedError

    monkeypatch.setattr("zoo.layers.lstm.backend_lstm", record)
    monkeypatch.setattr("zoo.layers.lstm_fast._on_gpu", lambda: True)
    # Without a mask, which would keep cuDNN away by itself; one model within another.
    layer = LSTM(3) if family == "lstm" else keras.layers.Bidirectional(LSTM(3))
    inner = keras.Sequential([keras.Input((None, 5)), layer, keras.layers.Dense(2)])
    features = keras.Input((None, 5), name="features")
    lengths = keras.Input((), dtype="int32", name="lengths")
    model = keras.Model({"features": features, "lengths": lengths}, inner(features))
    model({"features": tf.zeros((2, 7, 5)), "lengths": tf.constant([7, 3])})
    assert calls
    calls.clear()
    Servable(model, None, ("one", "two")).serve.get_concrete_function()
    assert not calls


def test_versions_count_up(bilstm, tmp_path):
    assert [export(bilstm, "tiny", tmp_path).name for _ in range(2)] == ["1", "2"]
    (tmp_path / "tiny" / "10").mkdir()
    assert export(bilstm, "tiny", tmp_path).name == "11"
    assert versions(tmp_path / "tiny") == [1, 2, 10, 11]
    assert load_servable(tmp_path / "tiny").path.name == "11"


def test_card_says_where_it_comes_from(exported, trained):
    card = json.loads((exported / "assets.extra" / "card.json").read_text("utf-8"))
    assert card["task"] == "movie_reviews/imdb"
    assert card["model"] == trained.config.model
    assert card["classes"] == ["negative", "positive"]
    assert card["inputs"] == {"text": "string[B]"}
    assert card["tokens"] == {"unit": "word", "max_length": 13}
    assert card["data"] == {
        "tfds_name": "movie_reviews/imdb",
        "version": trained.task.version,
        "splits": trained.task.splits,
        "card": "datasets/movie_reviews/README.md",
    }
    assert card["versions"] == {"tensorflow": "2.3.5"}  # of then, not of now
    assert card["metrics"]["test"] == trained.metrics["test"]
    vocabulary = (exported / "assets.extra" / "vocabulary.txt").read_text("utf-8")
    assert tuple(vocabulary.split()) == WORDS


def test_a_version_can_be_read_by_a_server_that_is_someone_else(exported):
    assert stat.S_IMODE(exported.stat().st_mode) == 0o755


def test_a_model_on_features_has_its_card_and_is_refused_texts(tmp_path):
    trained = replace(make_trained(), model=MODELS["lstm"](FeatureInputs(5), 2), encoder=None)
    folder = export(trained, "tracks", tmp_path)
    card = json.loads((folder / "assets.extra" / "card.json").read_text("utf-8"))
    assert card["inputs"] == {"features": "float32[B, T, D]", "lengths": "int32[B], in steps"}
    assert card["tokens"] is None
    assert not (folder / "assets.extra" / "vocabulary.txt").exists()
    signatures = tf.saved_model.load(str(folder)).signatures
    steps = {"features": tf.zeros((2, 7, 5)), "lengths": tf.constant([7, 3])}
    assert signatures["serving_default"](**steps)["label"].shape == (2,)
    assert signatures["logits"](**steps)["logits"].shape == (2, 2)
    with pytest.raises(RunError, match="takes features, not texts"):
        load_servable(tmp_path / "tracks")


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_folder_is_refused(bilstm, tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a folder"):
        export(bilstm, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_nothing_behind(bilstm, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "_write_card", full)
    with pytest.raises(RunError, match="No space left on device"):
        export(bilstm, "tiny", tmp_path / "saved" / "models")
    assert not list(tmp_path.iterdir())
    (tmp_path / "tiny").mkdir()
    with pytest.raises(RunError, match="No space left on device"):
        export(bilstm, "tiny", tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "tiny"]  # it was there before


def test_an_error_is_told_without_tensorflows_own_names(bilstm, tmp_path, monkeypatch):
    message = (
        "{{function_node __wrapped__SaveV2_dtypes_7_device_/job:localhost/device:CPU:0}} "
        "a/variables.data; No space left on device [Op:SaveV2]"
    )

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(RunError, match=r"tiny: a/variables\.data; No space left on device"):
        export(bilstm, "tiny", tmp_path)


def test_another_backend_is_refused(bilstm, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="export runs on TensorFlow, not on KERAS_BACKEND=jax"):
        export(bilstm, "tiny", tmp_path)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_one_line(bilstm, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="could not be written to"):
        export(bilstm, "tiny", tmp_path / "file")


def test_interruption_leaves_nothing_behind(bilstm, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "_write_card", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(bilstm, "tiny", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_swept_and_what_another_writes_is_not(bilstm, tmp_path):
    left, others = (tmp_path / "tiny" / f".unfinished-{name}" for name in ("left", "others"))
    for folder in (left, others):
        (folder / "variables").mkdir(parents=True)
    with export_module._held(others):
        export(bilstm, "tiny", tmp_path)
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == [others.name, "1"]


def test_a_version_that_appears_meanwhile_is_not_overwritten(bilstm, tmp_path, monkeypatch):
    real = export_module.versions
    seen = []

    def late(folder):
        seen.append(folder)
        if len(seen) == 1:
            (folder / "1").mkdir()
            (folder / "1" / "theirs").write_text("other")
            return []
        return real(folder)

    monkeypatch.setattr(export_module, "versions", late)
    assert export(bilstm, "tiny", tmp_path).name == "2"
    assert (tmp_path / "tiny" / "1" / "theirs").exists()
