"""What stands on a family's states to tell words: no state may have read the word it tells."""

import keras
import numpy as np
import pytest

from zoo.models import MODELS, TokenInputs
from zoo.models.words import WordQueries, build_predictor, objective_words, words_unseen

NUM_IDS, ROWS, STEPS = 23, 2, 7
FAMILIES = [name for name in MODELS if name not in ("bag", "nb_ngram")]
CAUSAL = [
    ("lstm", "small,embedding_dim=12,units=5"),
    ("lstm", "small,embedding_dim=12,units=5,num_layers=2"),
    ("bilstm", "small,embedding_dim=12,units=5"),
    ("transformer", "small,embedding_dim=12,attention=causal"),
    ("transformer", "small,embedding_dim=16,attention=causal,num_layers=2,position=rotary"),
    ("transformer", "small,embedding_dim=12,attention=causal,position=relative"),
]


def make_predictor(name, size, words):
    keras.utils.set_random_seed(0)
    return build_predictor(MODELS[name](TokenInputs(NUM_IDS), 2, size=size), words)


def queries_of(predictor, ids):
    outputs = predictor({"ids": keras.ops.convert_to_tensor(ids)}, training=False)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


@pytest.mark.parametrize(("name", "size"), CAUSAL)
def test_a_state_has_not_read_the_word_that_it_is_asked_for(name, size):
    words = objective_words(name, size, "causal")
    predictor = make_predictor(name, size, words)
    rng = np.random.default_rng(0)
    ids = rng.integers(2, NUM_IDS, (ROWS, STEPS)).astype("int32")
    before = queries_of(predictor, ids)
    for step in range(1, STEPS):
        for word, old, read in zip(
            words,
            before,
            (slice(0, step), slice(STEPS - step, None)),
            strict=False,
        ):
            others = rng.integers(2, NUM_IDS, ids.shape).astype("int32")
            others[:, read] = ids[:, read]
            new = queries_of(predictor, others)[words.index(word)]
            np.testing.assert_allclose(new[:, read], old[:, read], atol=1e-5)
            assert np.abs(new - old).max() > 1e-3  # it reads at all


@pytest.mark.parametrize("name", FAMILIES)
def test_where_every_state_has_read_everything_causal_is_refused(name):
    size = "small" if name != "bilstm" else "small,num_layers=2"
    if words_unseen(name, size):
        with pytest.raises(ValueError, match="it reads forward alone"):
            objective_words(name, size, "masked")
        return
    with pytest.raises(ValueError, match="each of its states has read the whole text"):
        objective_words(name, size, "causal")
    predictor = make_predictor(name, "small", objective_words(name, size, "masked"))
    ids = np.full((1, STEPS), 3, "int32")
    (before,) = queries_of(predictor, ids)
    for place in (0, STEPS - 1):
        changed = ids.copy()
        changed[0, place] = 5
        (after,) = queries_of(predictor, changed)
        assert (np.abs(after - before).max(axis=2) > 1e-6).all()


@pytest.mark.parametrize("name", ["bag", "nb_ngram"])
def test_families_that_read_each_word_alone_tell_none(name):
    for objective in ("masked", "causal"):
        with pytest.raises(ValueError, match="without those around them"):
            objective_words(name, "small", objective)


def test_the_predictor_shares_all_of_the_classifier_but_its_end():
    classifier = MODELS["bilstm"](TokenInputs(NUM_IDS), 2, size="small")
    predictor = build_predictor(classifier, ("hidden",))
    shared = {id(weight) for weight in classifier.weights} & {id(w) for w in predictor.weights}
    own = [weight.path for weight in predictor.weights if id(weight) not in shared]
    assert len(own) == 3
    assert all(path.startswith("hidden/") for path in own)
    left = {weight.path for weight in classifier.weights if id(weight) not in shared}
    assert all("logits" in path or "dropout" in path for path in left)


def test_it_is_saved_and_loaded(tmp_path):
    predictor = make_predictor("bilstm", "small,embedding_dim=12,units=5", ("next", "previous"))
    predictor.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    ids = np.array([[2, 3, 4, 0]], "int32")
    for ours, theirs in zip(queries_of(predictor, ids), queries_of(again, ids), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_queries_follow_their_equation():
    layer = WordQueries(num_ids=11, dim=3)
    x = np.random.default_rng(0).normal(size=(2, 5, 7)).astype("float32")
    kernel, bias = np.random.default_rng(1).normal(size=(7, 3)), np.arange(3.0)
    layer.build(x.shape)
    layer.set_weights([kernel, bias, np.zeros(11)])
    expected = np.einsum("btd,de->bte", x, kernel) + bias
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, atol=1e-5)
    assert layer.compute_output_shape((2, None, 7)) == (2, None, 3)
    for bad in ({"num_ids": 1, "dim": 3}, {"num_ids": 11, "dim": 0}):
        with pytest.raises(ValueError, match=r"must be a whole number of at least"):
            WordQueries(**bad)
