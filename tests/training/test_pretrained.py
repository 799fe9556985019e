"""A run that begins with a pretrained BERT: its pieces, its weights, and a smaller step below."""

import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_bert import PIECES, TINY, write_tiny
from tests.training.runs import SMALL, assert_same_run, interrupt, without_times
from zoo.config import Config
from zoo.convert import from_bert
from zoo.errors import RunError, UsageError
from zoo.explain import explain
from zoo.export import export, load_servable, predict
from zoo.pretrained import PACKAGES, folder_of
from zoo.training import evaluate, load_trained, train_and_evaluate
from zoo.workdir import Workdir

SIZE = "minilm,embedding_dim=6,num_layers=1,num_heads=2,feedforward_dim=11,max_positions=13"
BERT = SMALL | {"model": "transformer", "size": SIZE, "unit": "wordpiece", "epochs": 1}
STILL = BERT | {"learning_rate": 1e-12, "calibrate": False}
WORDS = (*PIECES, "good", "bad", "w", *(f"##{digit}" for digit in range(10)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("bert"), TINY | {"vocab_size": 29}, WORDS)


@pytest.fixture(scope="module")
def still(folder, data_dir, tmp_path_factory):
    """A run that moved nothing."""
    workdir = tmp_path_factory.mktemp("still")
    return workdir, train_and_evaluate(Config(**STILL, pretrained=str(folder)), workdir, data_dir)


def test_it_begins_with_the_weights_and_the_pieces(folder, still):
    bert, trained = from_bert(folder), load_trained(still[0])
    assert trained.encoder.vocabulary == WORDS
    for layer in bert.model.layers:
        for ours, theirs in zip(
            trained.model.get_layer(layer.name).weights, layer.weights, strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_its_figures_are_found_again_without_the_folder(still, data_dir):
    again = evaluate(load_trained(still[0]), "validation", data_dir)
    assert without_times(again) == without_times(still[1]["validation"])


def test_exported_it_takes_raw_strings(still, tmp_path):
    trained = load_trained(still[0])
    texts = ["Good w1 film!", "", "w2 " * 30, "\ufffd\x00"]
    ids = trained.encoder.encode_dense(tf.constant([text.encode() for text in texts]))
    assert ids.shape[1] == SMALL["max_length"]
    expected = tf.nn.softmax(trained.model({"ids": ids}, training=False)).numpy()
    servable = load_servable(export(trained, "bert", tmp_path))
    found = list(predict(servable, texts))
    np.testing.assert_allclose(
        [list(one.probabilities.values()) for one in found], expected, atol=1e-5
    )
    why = servable.module.signatures["explain"](text=tf.constant(["unwanted", "film"]))
    pieces = [["[CLS]", "un", "##want", "##ed", "[SEP]"], ["[CLS]", "film", "[SEP]", "", ""]]
    assert why["tokens"].numpy().astype(str).tolist() == pieces
    assert (why["attribution"].numpy()[1, 3:] == 0).all()


def test_it_is_explained_piece_by_piece(still):
    found = explain(load_trained(still[0]), "unwanted w7 film", steps=8)
    assert found.tokens == ("[CLS]", "un", "##want", "##ed", "w", "##7", "film", "[SEP]")
    assert len(found.attributions) == 8
    assert found.tokens_left_out == 0
    long = explain(load_trained(still[0]), "film " * 20 + "zzz", steps=8)
    assert long.unknown == (*[False] * 9, True, False)
    assert long.tokens_left_out == 12


@pytest.mark.slow
def test_cut_off_it_comes_to_the_same_end(folder, data_dir, tmp_path, monkeypatch):
    config = Config(**BERT, pretrained=str(folder), layer_step_rate=0.8)
    train_and_evaluate(config, tmp_path / "whole", data_dir)
    with monkeypatch.context() as patch:
        interrupt(patch, 5, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, tmp_path / "cut", data_dir)
    train_and_evaluate(config, tmp_path / "cut", data_dir)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_another_run_may_begin_with_it(still, data_dir, tmp_path):
    train_and_evaluate(Config(**STILL, warm_start=str(still[0])), tmp_path / "next", data_dir)
    before, after = (Workdir(path) for path in (still[0], tmp_path / "next"))
    assert after.vocabulary() == before.vocabulary() == WORDS
    weights = (one.load_model().get_weights() for one in (before, after))
    for old, new in zip(*weights, strict=True):
        np.testing.assert_allclose(old, new, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": "bag", "size": "small"},
            "cannot work without --model=transformer --size=minilm",
        ),
        ({"size": "minilm"}, f"cannot work without --size={SIZE}"),
        ({"unit": "word"}, "cannot work without --unit=wordpiece"),
        ({"max_length": 14}, "--max_length=14 cannot work: it has learnt 13 positions"),
    ],
)
def test_what_is_not_the_encoders_is_refused(folder, data_dir, tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        train_and_evaluate(
            Config(**BERT | changes, pretrained=str(folder)), tmp_path / "run", data_dir
        )


def test_a_folder_of_something_else_is_refused(data_dir, tmp_path):
    config = Config(**BERT, pretrained=str(tmp_path / "no"))
    with pytest.raises(UsageError, match="no is no folder"):
        train_and_evaluate(config, tmp_path / "run", data_dir)


def test_a_name_whose_package_is_not_installed_says_what_installs_it(monkeypatch):
    assert (folder_of("minilm") / "model.safetensors").is_file()
    monkeypatch.setitem(PACKAGES, "other", ("no-such-package", "model"))
    with pytest.raises(RunError, match="--pretrained=other needs the package no-such-package: pip"):
        folder_of("other")


def test_learnt_positions_are_as_many_as_tokens_may_be(data_dir, tmp_path):
    config = SMALL | {"model": "transformer", "size": "small,position=learned,max_positions=7"}
    with pytest.raises(UsageError, match="--max_length=11 cannot work: the model has 7 positions"):
        train_and_evaluate(Config(**config), tmp_path / "run", data_dir)
