"""Telling words: the loss against a re-derivation, its estimate, its figures; and it learns."""

import math

import numpy as np
import pytest
import tensorflow as tf

from zoo.errors import UsageError
from zoo.models import TokenInputs
from zoo.pretraining_config import PretrainingConfig
from zoo.splits import Split
from zoo.word_learner import WordLearner

NUM_IDS = 19
SIZES = {
    "lstm": "small,embedding_dim=6,units=5",
    "bilstm": "small,embedding_dim=6,units=5",
    "transformer": "small,embedding_dim=8",
}


def make_learner(model="bilstm", objective="causal", *, begun=True, **changes):
    settings = {
        "tasks": "tweets",
        "model": model,
        "size": SIZES[model],
        "objective": objective,
        "dropout_rate": 0.0,
        "average_decay": 0.0,
        "learning_rate": 0.03,
    }
    config = PretrainingConfig(**settings | changes)
    learner = WordLearner(config, TokenInputs(NUM_IDS), total_steps=300)
    for twin in (learner.model, learner.averaged) if begun else ():
        rng = np.random.default_rng(0)
        for weight in twin.trainable_weights:
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return learner


def make_split(rows):
    lengths = [len(row) for row in rows]
    return Split(
        np.concatenate(rows).astype("int32"),
        np.concatenate([[0], lengths]).cumsum().astype("int64"),
        np.zeros(len(rows), "int32"),
    )


def losses_of(learner, ids, asked):
    """`-log p(word)` of the words `(word's layer, step of the state, step of the word)`."""
    table = learner.model.get_layer("embedding").embeddings.numpy()
    queries = learner.model({"ids": tf.constant(ids)}, training=False)
    queries = dict(
        zip(learner._words, queries if isinstance(queries, list) else [queries], strict=True)
    )
    losses = []
    for word, state, told in asked:
        scores = queries[word].numpy()[0, state].astype("float64") @ table.T
        scores = scores + learner.model.get_layer(word).word_bias.numpy()
        losses.append(np.log(np.exp(scores).sum()) - scores[ids[0][told]])
    return losses


def test_the_figures_are_those_of_the_whole_sum_in_both_directions():
    learner = make_learner()
    row = [4, 5, 1, 7, 3]  # the third word is unknown: it is read, and not asked for
    asked = [("next", 0, 1), ("next", 2, 3), ("next", 3, 4)]
    asked += [("previous", 1, 0), ("previous", 2, 1), ("previous", 4, 3)]
    losses = losses_of(learner, np.array([row], "int32"), asked)
    characters = np.arange(NUM_IDS)
    figures = learner.evaluate(make_split([row]), characters)
    assert figures["words"] == 6
    np.testing.assert_allclose(figures["log_loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(figures["perplexity"], math.exp(np.mean(losses)), rtol=1e-4)
    told = sum(row[place] for _, _, place in asked)  # each word has as many characters as its id
    bits = sum(losses) / math.log(2) / told
    np.testing.assert_allclose(figures["bits_per_character"], bits, rtol=1e-5)


def test_padding_is_neither_read_nor_asked_for():
    learner = make_learner()
    together = learner.evaluate(make_split([[4, 5, 6], [7, 8, 9, 10, 11, 12]]), np.ones(NUM_IDS))
    alone = [
        learner.evaluate(make_split([row]), np.ones(NUM_IDS))
        for row in ([4, 5, 6], [7, 8, 9, 10, 11, 12])
    ]
    total = sum(one["log_loss"] * one["words"] for one in alone)
    assert together["words"] == sum(one["words"] for one in alone) == 14
    np.testing.assert_allclose(together["log_loss"], total / 14, rtol=1e-5)


def test_the_estimated_loss_nears_the_whole_one_as_the_sample_grows():
    ids = np.random.default_rng(1).integers(2, NUM_IDS, (1, 40)).astype("int32")
    learner = make_learner("lstm", sampled_words=200_000)
    asked = [("next", step, step + 1) for step in range(39)]
    whole = np.mean(losses_of(learner, ids, asked))
    loss, right, answers = learner._loss({"ids": tf.constant(ids)}, tf.zeros(1))
    assert answers == 39
    assert 0 <= right <= 39
    np.testing.assert_allclose(float(loss), whole, rtol=0.02)


def test_hidden_words_are_told_by_others():
    learner = make_learner("transformer", "masked", mask_rate=0.5)
    ids = tf.constant(np.random.default_rng(0).integers(2, NUM_IDS, (3, 50)), tf.int32)
    seen = []
    predictor = learner.model

    class Spy:
        def __call__(self, inputs, training):
            seen.append(inputs["ids"].numpy())
            return predictor(inputs, training=training)

        def get_layer(self, name):
            return predictor.get_layer(name)

    chance = tf.random.stateless_uniform(ids.shape, [0, 0])
    [(queries, words, layer)] = list(learner._asked(Spy(), ids, chance, training=True))
    hidden = seen[0] == 1
    asked = chance.numpy() < 0.5
    assert layer.name == "hidden"
    assert queries.shape == (asked.sum(), 8)
    np.testing.assert_array_equal(words, ids.numpy()[asked])
    assert not (hidden & ~asked).any()  # no other word is touched,
    assert 0.8 < hidden.sum() / asked.sum() < 1  # and a tenth of the asked ones stays in sight
    np.testing.assert_array_equal(seen[0][~hidden], ids.numpy()[~hidden])
    list(learner._asked(Spy(), ids, chance, training=False))
    np.testing.assert_array_equal(seen[1] == 1, asked)  # in validation none does


@pytest.mark.parametrize(
    ("model", "objective"), [("lstm", "causal"), ("bilstm", "causal"), ("bilstm", "masked")]
)
def test_it_learns_a_text_that_can_be_told(model, objective):
    learner = make_learner(model, objective, begun=False)
    rows = [[2 + (start + step) % 17 for step in range(12)] for start in range(17)]
    split = make_split(rows)
    before = learner.evaluate(split, np.ones(NUM_IDS))["accuracy"]
    batch = {"ids": tf.constant(rows, tf.int32)}, tf.zeros(17, tf.int32)
    for _ in range(300):
        loss, right, answers = learner.step(*batch)
    after = learner.evaluate(split, np.ones(NUM_IDS))
    assert np.isfinite(loss)
    assert 0 < right <= answers
    assert before < 0.5
    assert after["accuracy"] > 0.95
    assert after["perplexity"] < 2


def test_a_text_of_one_word_teaches_nothing_and_breaks_nothing():
    learner = make_learner()
    loss, right, answers = learner.step({"ids": tf.constant([[5]])}, tf.constant([0]))
    assert (loss, right, answers) == (0.0, 0, 1)
    assert learner.is_finite()
    with pytest.raises(UsageError, match="there is no word to tell"):
        learner.evaluate(make_split([[5]]), np.ones(NUM_IDS))
