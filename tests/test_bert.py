"""A pretrained BERT with our layers: what its own library computes, and what is refused."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from tests.bert_reference import PAIRED, TABLE, VARIED, embeddings, places
from tests.minilm import FOLDER
from tests.tiny_bert import PIECES, TINY, write_tiny
from zoo import convert
from zoo.convert import from_bert
from zoo.errors import RunError, UsageError
from zoo.layers import TransformerBlock
from zoo.models import MODELS, TokenInputs


@pytest.fixture(scope="module")
def bert():
    return from_bert(FOLDER)


@pytest.fixture(scope="module")
def table():
    return np.load(TABLE)


@pytest.fixture(scope="module")
def hidden(bert):
    """Texts to the states of each layer, `float32[layers, T, D]`, padding left out."""
    layers = ["embedding_norm", *(f"block_{n}" for n in range(6))]
    model = keras.Model(bert.model.input, [bert.model.get_layer(n).output for n in layers])

    def states(texts):
        ids = bert.tokenizer.encode_dense(tf.constant(texts))
        found = np.stack(model({"ids": ids}, training=False))  # float32[layers, B, T, D]
        lengths = bert.tokenizer(tf.constant(texts)).row_lengths().numpy()
        return [found[:, row, :length] for row, length in enumerate(lengths)]

    return states


def test_the_layers_are_ours_and_the_last_one_is_what_comes_out(bert):
    blocks = [layer for layer in bert.model.layers if isinstance(layer, TransformerBlock)]
    assert len(blocks) == 6
    assert {(b.norm, b.num_heads, b.epsilon) for b in blocks} == {("post", 12, 1e-12)}
    assert bert.model.output_shape == (None, None, 384)
    # BERT's own number, less its pooler, its second segment and what is folded into positions.
    assert bert.model.count_params() == 22_713_216 - 384 * 384 - 384 - 2 * 384
    assert bert.size == "minilm"
    assert convert.Bert is type(bert)


def test_hidden_states_of_a_hundred_varied_sentences_are_the_librarys(hidden, table):
    found = [s for start in range(0, 100, 20) for s in hidden(VARIED[start : start + 20])]
    values = np.stack([one[places(one.shape[1], n)] for n, one in enumerate(found)])
    assert values.shape == table["values"].shape == (100, 7 * 32)
    np.testing.assert_allclose(values, table["values"], atol=1e-4)


def test_sentences_are_as_similar_as_the_library_finds_them(hidden, table):
    known = embeddings([states[-1] for states in hidden(PAIRED)])
    similarities = known @ known.T
    np.testing.assert_allclose(similarities, table["similarities"], atol=1e-4)
    upper = np.triu_indices(len(PAIRED), 1)
    assert (np.argsort(similarities[upper]) == np.argsort(table["similarities"][upper])).all()
    np.fill_diagonal(similarities, -1)
    assert similarities.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]


def test_a_bert_of_another_size_is_read(tmp_path):
    bert = from_bert(write_tiny(tmp_path, TINY | {"hidden_act": "relu"}))
    sizes = "embedding_dim=6,num_layers=1,num_heads=2,feedforward_dim=11,max_positions=13"
    assert bert.size == f"minilm,{sizes},feedforward=relu"
    # Rows of word vectors that round their number up belong to no piece.
    assert bert.model.get_layer("embedding").embeddings.shape == (len(PIECES), 6)
    tensors = load_file(tmp_path / "model.safetensors")
    places = tensors["embeddings.position_embeddings.weight"]
    first = tensors["embeddings.token_type_embeddings.weight"][0]
    np.testing.assert_allclose(bert.model.get_layer("positions").embeddings, places + first)
    texts = tf.constant(["unwanted film film film film film film film film film film film film"])
    ids = bert.tokenizer.encode_dense(texts)
    assert ids.shape == (1, 13)
    assert np.isfinite(bert.model({"ids": ids})).all()


def test_its_size_makes_a_classifier_of_the_same_layers(tmp_path):
    bert = from_bert(write_tiny(tmp_path))
    inputs = TokenInputs(bert.tokenizer.num_ids, bert.tokenizer.unknown_id)
    model = MODELS["transformer"](inputs, 2, size=bert.size)
    for layer in bert.model.layers:
        twin = model.get_layer(layer.name)
        assert [w.shape for w in twin.weights] == [w.shape for w in layer.weights]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_and_a_name_before_the_tensors_make_no_difference(tmp_path, dtype):
    def change(tensors):
        tensors.update({name: tensor.astype(dtype) for name, tensor in tensors.items()})

    plain = from_bert(write_tiny(tmp_path / "plain"))
    other = from_bert(write_tiny(tmp_path / "other", change=change, prefix="bert."))
    for ours, theirs in zip(plain.model.weights, other.model.weights, strict=True):
        assert theirs.dtype == "float32"
        np.testing.assert_allclose(ours, theirs, atol=5e-3)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    write_tiny(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=f"holds no pretrained BERT: {name} is missing"):
        from_bert(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(UsageError, match=r"is no folder: give one with config\.json"):
        from_bert(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_damaged_file_is_named(tmp_path, name):
    write_tiny(tmp_path)
    (tmp_path / name).write_bytes(b"\xff\xfe{")
    with pytest.raises(RunError, match=f"{name} cannot be read"):
        from_bert(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "roberta"}, "config.json is of model_type='roberta', not 'bert'"),
        ({"hidden_act": "silu"}, "has hidden_act='silu', which ours lacks: only gelu, relu"),
        ({"layer_norm_eps": 1e-5}, "has layer_norm_eps=1e-05, which ours lacks"),
        ({"position_embedding_type": "relative_key"}, "has position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "has is_decoder=True, which ours lacks: only False"),
        ({"num_hidden_layers": "6"}, "has num_hidden_layers='6', not a number"),
        ({"num_attention_heads": 4}, "a width of 6 cannot be shared by num_heads=4"),
        ({"vocab_size": 5}, "vocab.txt has 9 pieces, more than the vocab_size=5"),
        (
            {"hidden_size": 2**60},
            r"has 'embeddings.word_embeddings.weight' of shape \(19, 6\), not",
        ),
        (
            {"type_vocab_size": 5},
            r"has 'embeddings.token_type_embeddings.weight' of shape \(3, 6\)",
        ),
        ({"hidden_size": 8}, r"has 'embeddings.word_embeddings.weight' of shape \(19, 6\), not"),
        (
            {"num_hidden_layers": 2},
            "lacks the tensor 'encoder.layer.1.attention.self.query.weight'",
        ),
    ],
)
def test_a_configuration_that_is_not_the_files_is_refused(tmp_path, changes, says):
    write_tiny(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(TINY | changes), "utf-8")
    with pytest.raises(UsageError, match=says) as caught:
        from_bert(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_tensor_is_named(tmp_path):
    name = "encoder.layer.0.output.dense.bias"
    write_tiny(tmp_path, change=lambda tensors: tensors.pop(name))
    with pytest.raises(UsageError, match=f"model.safetensors lacks the tensor '{name}'"):
        from_bert(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"do_lower_case": False}, "tokenizer_config.json has do_lower_case=False"),
        ({"strip_accents": False}, "tokenizer_config.json has strip_accents=False"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(tmp_path, settings, says):
    write_tiny(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(UsageError, match=says):
        from_bert(tmp_path)


def test_to_convert_a_layer_needs_no_tensorflow():
    code = "import sys, zoo.convert; assert 'tensorflow' not in sys.modules"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_a_vocabulary_of_another_kind_is_refused(tmp_path):
    write_tiny(tmp_path, pieces=("<s>", "film"))
    with pytest.raises(UsageError, match=r"vocab.txt: the vocabulary has no \[PAD\]"):
        from_bert(tmp_path)
