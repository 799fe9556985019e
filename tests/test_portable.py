"""What leaves for another runtime: run there, asked in plain Python, it answers as the model."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.exports import TEXTS, WORDS, make_trained
from zoo import portable
from zoo.errors import RunError, UsageError
from zoo.models import MODELS, FeatureInputs, TokenInputs
from zoo.plain_tokenizer import Tokenizer
from zoo.portable import FORMATS, TOLERANCE, export_portable
from zoo.text import UNITS, TextEncoder, TextSettings
from zoo.wordpiece import SPECIAL, WordPieceEncoder

SIZES = {
    "bag": "small,embedding_dim=5",
    "lstm": "small,embedding_dim=5,units=3,num_layers=2",
    "bilstm": "small,embedding_dim=5,units=3",
    "min_lstm": "small,embedding_dim=5,units=3",
    "lstm_attention": "small,embedding_dim=5,units=4,num_heads=2",
    "transformer": "small,embedding_dim=8,num_heads=2,feedforward_dim=7",
    "nb_ngram": "small,num_buckets=64",
}
BESIDE = {
    "card.json",
    "example.py",
    "labels.txt",
    "tokenizer.json",
    "tokenizer.py",
    "vocabulary.txt",
}


def tiny(family, **numbers):
    trained = make_trained(family)
    size = ",".join([SIZES[family], *(f"{name}={value}" for name, value in numbers.items())])
    model = MODELS[family](TokenInputs(trained.encoder.num_ids), 2, size=size)
    generator = np.random.default_rng(5)
    # As made, biases are zero and an n-gram counts for nothing.
    model.set_weights([w + generator.normal(size=w.shape) / 4 for w in model.get_weights()])
    return replace(trained, model=model)


def ask(folder, texts):
    """What the example beside the model prints: labels, and a row of probabilities each."""
    done = subprocess.run(
        [sys.executable, folder / "example.py", *texts],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        cwd=folder.parent, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], float)


def expected(trained, texts):
    ids = trained.encoder.encode_dense(tf.constant(texts))
    return tf.nn.softmax(trained.model({"ids": ids}, training=False)).numpy()


@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("family", sorted(MODELS))
def test_every_family_answers_alike_in_its_runtime(family, format, tmp_path):
    trained = tiny(family)
    folder = export_portable(trained, format, "tiny", tmp_path)
    assert folder == tmp_path / f"tiny-{format}" / "1"
    assert {path.name for path in folder.iterdir()} == BESIDE | {FORMATS[format].file}
    run = FORMATS[format].runner((folder / FORMATS[format].file).read_bytes(), 13)
    tokenizer = Tokenizer(folder)
    found = [run(np.array(tokenizer(text), "int32")) for text in TEXTS]
    np.testing.assert_allclose(found, expected(trained, TEXTS), atol=TOLERANCE)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_the_example_beside_it_is_short_and_runs(format, tmp_path):
    trained = tiny("bilstm")
    folder = export_portable(trained, format, "tiny", tmp_path)
    assert len((folder / "example.py").read_text("utf-8").splitlines()) <= 20
    labels, probabilities = ask(folder, TEXTS)
    wanted = expected(trained, TEXTS)
    np.testing.assert_allclose(probabilities, wanted, atol=TOLERANCE)
    assert labels == [trained.task.classes[row.argmax()] for row in wanted]
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert (card["format"], card["model"], set(card["inputs"])) == (format, "bilstm", {"ids"})


def test_litert_holds_no_operation_of_tensorflow(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    folder = export_portable(tiny("lstm"), "litert", "tiny", tmp_path)
    operations = Interpreter(str(folder / "model.tflite"))._get_ops_details()
    names = {one["op_name"] for one in operations}
    assert "FULLY_CONNECTED" in names
    assert not [name for name in names if name.startswith("Flex") or name == "CUSTOM"]


def test_onnx_takes_rows_of_any_number_and_length(tmp_path):
    import onnxruntime

    trained = tiny("bilstm")
    folder = export_portable(trained, "onnx", "tiny", tmp_path)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    ids = trained.encoder.encode_dense(tf.constant(TEXTS)).numpy()
    (found,) = session.run(["probabilities"], {"ids": ids})
    np.testing.assert_allclose(found, expected(trained, TEXTS), atol=TOLERANCE)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_the_choices_of_a_size_are_converted_too(format, tmp_path):
    export_portable(tiny("lstm", layer_norm="yes", peephole="yes"), format, "tiny", tmp_path)


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    trained = tiny("bag")
    with pytest.raises(UsageError, match="unknown format 'onx': did you mean 'onnx'"):
        export_portable(trained, "onx", "tiny", tmp_path)
    model = MODELS["bag"](FeatureInputs(5), 2)
    with pytest.raises(UsageError, match=r"a task on features.*--format=saved_model works"):
        export_portable(replace(trained, model=model, encoder=None), "onnx", "tiny", tmp_path)
    pieces = WordPieceEncoder(SPECIAL, TextSettings("wordpiece", max_length=8))
    with pytest.raises(UsageError, match=r"reads word pieces.*--format=saved_model works"):
        export_portable(replace(trained, encoder=pieces), "onnx", "tiny", tmp_path)
    changed = replace(FORMATS["onnx"], convert=lambda model, max_length: b"")
    monkeypatch.setitem(FORMATS, "onnx", changed)
    with pytest.raises(
        RunError, match=r"cannot be converted to onnx: .*--format=saved_model works"
    ):
        export_portable(trained, "onnx", "tiny", tmp_path)
    changed = replace(FORMATS["litert"], runner=lambda *_: lambda ids: np.array([0.5, 0.5]))
    monkeypatch.setitem(FORMATS, "litert", changed)
    with pytest.raises(RunError, match="off the model, more than 1e-05: nothing was written"):
        export_portable(trained, "litert", "tiny", tmp_path)
    monkeypatch.setattr(portable.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"tf2onnx, onnxruntime: pip install 'sequence-zoo\[onnx\]'"):
        export_portable(trained, "onnx", "tiny", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """For each unit, the encoder of the graph and the plain one that was written of it."""
    both = {}
    for unit in UNITS:
        words = () if unit == "byte" else (*WORDS, "好", "don't", "映", "ap", "␣", "th", "e", "é")
        encoder = TextEncoder(words, TextSettings(unit, max_length=13))
        folder = tmp_path_factory.mktemp(unit)
        portable._write_tokenizer(folder, encoder)
        both[unit] = (encoder, Tokenizer(folder))
    return both


ODD = st.text(
    alphabet=st.sampled_from("a'’bB<br/> \t\x01\x00\x85好ーカé́Éﬁİς\u2028#1½🙂\ufeff\ufe0f\u0378")
)


@pytest.mark.parametrize("unit", UNITS)
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(ODD.map(str.encode), st.text().map(str.encode), st.binary()))
@example(text="a'b'c'd ''e' 好'好 a'好 don’t".encode())
@example(text="I ❤\ufe0flove it, 1\ufe0f\u20e3".encode())
@example(text=b"a<br>b<br />c</br>d<BR\tx>e<br<br>>")
@example(text=b"\xe2\x82 \xf0\x9f\x98 \xc0\x80 \xed\xa0\x80 \xff")
@example(text=("film " * 30).encode())
@example(text=b"")
def test_the_plain_rule_is_the_graphs(tokenizers, unit, text):
    encoder, plain = tokenizers[unit]
    wanted = encoder.encode_dense(tf.constant([text])).numpy()[0].tolist()
    assert plain(text) == wanted
    tokens = encoder.split(tf.constant([text])).to_list()[0]
    found = plain.split(plain.normalise(text))
    assert [bytes([one]) if isinstance(one, int) else one.encode() for one in found] == tokens
