"""One step: what it moves, by how much, and what it reports."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.config import Config
from zoo.errors import UsageError
from zoo.layers import LogCountRatios
from zoo.learner import Learner, input_signature
from zoo.models import FeatureInputs, TokenInputs

SMALL = {
    "model": "bag",
    "size": "small,embedding_dim=7",
    "dropout_rate": 0.0,
    "learning_rate": 0.03,
    "average_decay": 0.9,
}


def make_learner(**changes):
    keras.utils.set_random_seed(0)
    config = Config(**SMALL | changes)
    return Learner(config, TokenInputs(44), 2, total_steps=20)


def make_batch(rows=5, steps=7, seed=0):
    rng = np.random.default_rng(seed)
    ids = tf.constant(rng.integers(1, 44, (rows, steps)), tf.int32)
    return {"ids": ids}, tf.constant(rng.integers(0, 2, rows), tf.int32)


def test_a_step_is_traced_once_whatever_the_shapes():
    a = make_learner()
    for rows, steps in ((5, 7), (3, 11), (1, 1)):
        a.step(*make_batch(rows, steps))
        a.logits(make_batch(rows, steps)[0])
    assert a._step.experimental_get_tracing_count() == 1
    assert a.logits.experimental_get_tracing_count() == 1


def test_the_average_follows_its_definition():
    a = make_learner()
    expected = [weight.numpy().astype("float64") for weight in a.averaged.weights]
    for step in range(1, 6):
        a.step(*make_batch(seed=step))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * weight.numpy()
            for old, weight in zip(expected, a.model.weights, strict=True)
        ]
    for average, value in zip(a.averaged.weights, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), value, atol=1e-6)


def test_without_averaging_the_twins_are_equal():
    a = make_learner(average_decay=0.0)
    for step in range(3):
        a.step(*make_batch(seed=step))
    for average, weight in zip(a.averaged.weights, a.model.weights, strict=True):
        np.testing.assert_array_equal(average.numpy(), weight.numpy())


def test_a_step_reports_loss_and_correct_answers_of_before():
    a = make_learner(label_smoothing_rate=0.2)
    inputs, labels = make_batch()
    logits = a.model(inputs, training=False).numpy().astype("float64")
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = 0.8 * np.eye(2)[labels.numpy()] + 0.1
    loss, correct, _ = a.step(inputs, labels)
    assert loss == pytest.approx(-(targets * log_probabilities).sum(axis=1).mean(), rel=1e-5)
    assert correct == (logits.argmax(axis=1) == labels.numpy()).sum()


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_embedding_takes_its_share_of_a_step(share):
    whole, part = make_learner(), make_learner(embedding_step_rate=share)
    before = [weight.numpy() for weight in part.model.weights]
    for a in (whole, part):
        a.step(*make_batch())
    for old, full, weight in zip(before, whole.model.weights, part.model.weights, strict=True):
        expected = share if weight.name == "embeddings" else 1.0
        np.testing.assert_allclose(weight.numpy() - old, expected * (full.numpy() - old), atol=1e-7)


def test_each_layer_takes_its_share_of_what_the_one_above_takes():
    size = {"model": "transformer", "size": "small,embedding_dim=8,num_heads=2,num_layers=2"}
    whole = make_learner(**size)
    part = make_learner(**size, layer_step_rate=0.5, embedding_step_rate=0.25)
    before = {weight.path: weight.numpy() for weight in part.model.trainable_weights}
    for a in (whole, part):
        a.step(*make_batch())
    expected = {"logits": 1.0, "norm": 0.5, "block_1": 0.25, "block_0": 0.125}
    expected["embedding"] = 0.0625 * 0.25
    pairs = zip(whole.model.trainable_weights, part.model.trainable_weights, strict=True)
    for full, weight in pairs:
        share = expected[weight.path.split("/")[0]]
        moved = weight.numpy() - before[weight.path]
        np.testing.assert_allclose(moved, share * (full.numpy() - before[weight.path]), atol=1e-7)


def test_the_learning_rate_rises_and_falls_to_nothing():
    a = make_learner(warmup_rate=0.25, learning_rate=0.1)
    rates = []
    for step in range(20):
        rates.append(a.learning_rate)
        a.step(*make_batch(seed=step))
    rates.append(a.learning_rate)
    expected = [0.1 / 6 * (step + 1) for step in range(5)]
    expected += [0.05 * (1 + np.cos(np.pi * step / 15)) for step in range(16)]
    np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_without_warm_up_the_learning_rate_begins_at_its_height():
    assert make_learner(warmup_rate=0.0, learning_rate=0.1).learning_rate == pytest.approx(0.1)


def test_only_kernels_decay():
    config = Config(**SMALL | {"model": "transformer", "size": "small,embedding_dim=8,num_heads=2"})
    a = Learner(config, TokenInputs(44), 2, 1)
    decayed = {v.name for v in a.model.trainable_variables if a.optimizer._use_weight_decay(v)}
    names = {v.name for v in a.model.trainable_variables}
    assert decayed == {"kernel"}
    assert {"bias", "gamma", "beta", "embeddings"} <= names


def test_float16_scales_the_loss():
    a = make_learner(mixed_precision="float16")
    assert isinstance(a.optimizer, keras.optimizers.LossScaleOptimizer)
    assert a.model.get_layer("embedding").compute_dtype == "float16"
    assert a.averaged.get_layer("embedding").compute_dtype == "float32"
    a.step(*make_batch())
    assert len(a.variables["optimizer"]) == len(a.optimizer.variables) > 4


def test_what_goes_with_which_class_is_counted_in_both_twins():
    a = make_learner(model="nb_ngram", size="small,num_buckets=101")
    batches = [make_batch(seed=seed) for seed in range(3)]
    a.adapt(batches)
    layer = a.model.get_layer("logits")
    alone = type(layer).from_config(layer.get_config())
    alone.adapt_to_labels((a.model.get_layer("ngrams")(x["ids"]), y) for x, y in batches)
    assert len(np.unique(alone.ratios.numpy())) > 10
    for twin in (a.model, a.averaged):
        np.testing.assert_array_equal(twin.get_layer("logits").ratios, alone.ratios)
    for batch in batches:
        a.step(*batch)
    for twin in (a.model, a.averaged):
        np.testing.assert_array_equal(twin.get_layer("logits").ratios, alone.ratios)
        assert not np.array_equal(twin.get_layer("logits").kernel, alone.kernel)


def test_ngrams_begin_as_the_sum_of_both_tasks():
    arguments = {"model": "nb_ngram", "size": "small,num_buckets=101"}
    before = make_learner(**arguments)
    before.adapt([make_batch(seed=1)])
    for seed in range(3):
        before.step(*make_batch(seed=seed))
    # A larger vocabulary that begins with the other one's words.
    after, alone = (
        Learner(Config(**SMALL | arguments), TokenInputs(53), 2, total_steps=20) for _ in range(2)
    )
    for one in (after, alone):
        one.adapt([make_batch(seed=2)])
    after.begin_with(before.model, same_classes=True)
    batch, _ = make_batch(seed=4)
    known, counted = (one.model.get_layer("logits") for one in (before, alone))
    weights = known.ratios.numpy() * known.kernel.numpy()
    here, there = (np.sqrt((x[x != 0] ** 2).mean()) for x in (counted.ratios.numpy(), weights))
    share = here / there / known.gain
    expected = alone.logits(batch) + share * (before.model(batch) - known.bias)
    assert np.abs(expected - alone.logits(batch)).max() > 1e-3
    for twin in (after.model, after.averaged):
        np.testing.assert_allclose(twin(batch), expected, atol=1e-4)
    with pytest.raises(UsageError, match="its classes are others"):
        after.begin_with(before.model, same_classes=False)
    with pytest.raises(ValueError, match="a layer of 2 classes says nothing of 3"):
        LogCountRatios(known.num_features, 3).add_weights_of(known, np.arange(3))


def test_a_model_that_counts_nothing_is_left_as_it_is():
    a = make_learner()
    before = a.model.get_weights()
    a.adapt([make_batch()])
    for old, new in zip(before, a.model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_features_have_a_step_too():
    config = Config(**SMALL)
    a = Learner(config, FeatureInputs(5), 2, 1)
    batch = {"features": tf.ones((3, 4, 5)), "lengths": tf.constant([4, 2, 1])}
    loss, *_ = a.step(batch, tf.constant([0, 1, 0]))
    assert np.isfinite(loss)


def test_features_are_measured_in_both_twins():
    a = Learner(Config(**SMALL), FeatureInputs(5), 2, 3)
    features = tf.constant(np.random.default_rng(1).normal(2.0, 3.0, (3, 4, 5)), tf.float32)
    batch = {"features": features, "lengths": tf.constant([4, 2, 1])}
    labels = tf.constant([0, 1, 0])
    a.adapt([(batch, labels)])
    steps = np.concatenate([features[0], features[1, :2], features[2, :1]])
    a.step(batch, labels)
    for twin in (a.model, a.averaged):
        layer = twin.get_layer("standardization")
        np.testing.assert_allclose(layer.mean, steps.mean(0), rtol=1e-5)
        np.testing.assert_allclose(layer.deviation, steps.std(0), rtol=1e-5)


def test_inputs_become_a_signature():
    spec = input_signature(make_learner().model)
    assert spec == {"ids": tf.TensorSpec([None, None], tf.int32)}


def moved_layers(learner, **batch):
    before = {layer.name: layer.get_weights() for layer in learner.model.layers}
    learner.step(*make_batch(**batch))
    moved = {}
    for layer in learner.model.layers:
        steps = [
            np.abs(new - old).max()
            for new, old in zip(layer.get_weights(), before[layer.name], strict=True)
            if new.dtype == np.float32
        ]
        if steps:
            moved[layer.name] = max(steps)
    return moved


def test_layers_thaw_from_the_last_one_down():
    a = make_learner(model="lstm", size="small,embedding_dim=7,units=5", unfreeze_epochs=2)
    names = ("logits", "lstm_0", "embedding")
    for epoch, thawed in ((0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (9, 3)):
        a.begin_epoch(epoch)
        moved = moved_layers(a, seed=epoch)
        assert [name for name in names if moved[name] > 0] == list(names[:thawed])
