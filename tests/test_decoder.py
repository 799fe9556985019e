"""Step by step, with what was kept of those before, a model says what it says of whole texts."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.models import MODELS, TokenInputs
from zoo.models.decoder import Decoder
from zoo.models.words import build_predictor

NUM_IDS, ROWS, STEPS = 23, 3, 11
LSTM = "small,embedding_dim=13,units=5"
TRANSFORMER = "small,embedding_dim=12,num_heads=3,feedforward_dim=17,attention=causal"
TWO_BLOCKS = "small,embedding_dim=12,num_heads=3,feedforward_dim=17,num_layers=2,attention=causal"
CAUSAL = [
    ("lstm", LSTM),
    ("lstm", f"{LSTM},num_layers=2"),
    ("lstm", f"{LSTM},projection_units=3"),
    ("lstm", f"{LSTM},layer_norm=yes"),
    ("lstm", f"{LSTM},peephole=yes"),
    ("transformer", TRANSFORMER),
    ("transformer", f"{TRANSFORMER},norm=post,feedforward=gelu,embedding_norm=yes"),
    ("transformer", f"{TRANSFORMER},feedforward=swiglu,epsilon=1e-12"),
    ("transformer", f"{TRANSFORMER},position=learned,max_positions=23"),
    *(("transformer", f"{TWO_BLOCKS},position={p}") for p in ("rotary", "alibi", "relative")),
]


def make_predictor(name, size, words=("next",)):
    predictor = build_predictor(MODELS[name](TokenInputs(NUM_IDS), 2, size=size), words)
    rng = np.random.default_rng(3)
    # Weights of which none is zero or one.
    predictor.set_weights(
        [
            rng.normal(size=w.shape, scale=0.4) if w.dtype.kind == "f" else w
            for w in predictor.get_weights()
        ]
    )
    return predictor


def scores_of_whole(predictor, ids):
    """`log p(word) + log Z` behind every step, `float[B, T, V]`, of the model itself."""
    queries = keras.ops.convert_to_numpy(predictor({"ids": ids}, training=False))
    embedding = keras.ops.convert_to_numpy(predictor.get_layer("embedding").embeddings)
    bias = keras.ops.convert_to_numpy(predictor.get_layer("next").word_bias)
    return np.einsum("bte,ve->btv", queries, embedding) + bias


def read(decoder, ids, sizes, max_length):
    """The scores behind the last step of chunks of these sizes, one after another."""
    state, index, found = decoder.init_state(len(ids), max_length), 0, []
    for size in sizes:
        scores, state = decoder(ids[:, index : index + size], state, index)
        found.append(keras.ops.convert_to_numpy(scores))
        index += size
    return found


@pytest.fixture(scope="module", params=CAUSAL, ids=lambda case: f"{case[0]}-{case[1][6:]}")
def predictor(request):
    return make_predictor(*request.param)


@settings(max_examples=8, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    rows=st.integers(1, ROWS),
    seed=st.integers(0, 99),
)
def test_any_chunks_give_what_the_whole_text_gives(predictor, sizes, rows, seed):
    ids = np.random.default_rng(seed).integers(1, NUM_IDS, (rows, sum(sizes))).astype("int32")
    whole = scores_of_whole(predictor, ids)
    # A cache may be longer than what is read.
    found = read(Decoder(predictor), ids, sizes, max_length=sum(sizes) + seed % 3)
    for scores, end in zip(found, np.cumsum(sizes), strict=True):
        np.testing.assert_allclose(scores, whole[:, end - 1], atol=1e-5)


def test_every_single_step_gives_what_the_whole_text_gives(predictor):
    ids = np.random.default_rng(0).integers(1, NUM_IDS, (ROWS, STEPS)).astype("int32")
    whole = scores_of_whole(predictor, ids)
    for step, scores in enumerate(read(Decoder(predictor), ids, [1] * STEPS, STEPS)):
        np.testing.assert_allclose(scores, whole[:, step], atol=1e-5)


def test_what_was_read_before_counts(predictor):
    ids = np.array([[3, 4, 5], [4, 4, 5]], "int32")
    *_, last = read(Decoder(predictor), ids, [2, 1], 3)
    assert np.abs(last[0] - last[1]).max() > 1e-3


def test_learned_positions_say_where_they_end():
    limited = Decoder(make_predictor("transformer", f"{TRANSFORMER},position=learned"))
    assert limited.max_length == 512
    assert Decoder(make_predictor("lstm", LSTM)).max_length is None
    assert limited.num_ids == NUM_IDS


@pytest.mark.parametrize(
    ("name", "size", "words", "message"),
    [
        ("lstm", LSTM, ("hidden",), "'hidden' tells no next word"),
        ("bilstm", LSTM, ("next", "previous"), "cannot go step by step"),
        ("min_lstm", "small", ("next",), "cannot go step by step"),
    ],
)
def test_a_model_that_reads_otherwise_is_refused(name, size, words, message):
    with pytest.raises(ValueError, match=message):
        Decoder(make_predictor(name, size, words))
