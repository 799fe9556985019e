"""What must hold for all masks and shapes, tried on many."""

import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.layers import (
    LSTM,
    MaskedPooling,
    MultiHeadAttention,
    TransformerBlock,
    WordDropout,
    scaled_dot_product_attention,
)

# JAX compiles every operation anew for each shape.
EXAMPLES = 4 if keras.backend.backend() == "jax" else 12
FEW = settings(derandomize=True, max_examples=EXAMPLES, deadline=None, database=None)
sizes = st.integers(1, 5)
seeds = st.integers(0, 999)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def random(seed, *shape):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def some(seed, *shape):
    return np.random.default_rng([seed, 1, *shape]).random(shape) < 0.6


@FEW
@given(rows=sizes, queries=sizes, keys=sizes, heads=st.integers(1, 3), size=sizes, seed=seeds)
def test_attention_weights_are_shares_of_what_may_be_seen(rows, queries, keys, heads, size, seed):
    query, key = random(seed, rows, queries, heads, size), random(seed, rows, keys, heads, size)
    value, mask = random(seed, rows, keys, heads, size + 1), some(seed, rows, heads, queries, keys)
    tensors = [keras.ops.convert_to_tensor(a) for a in (query, key, value)]
    context, weights = map(numpy, scaled_dot_product_attention(*tensors, mask))
    assert (weights[~mask] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), mask.any(-1).astype("float32"), atol=1e-5)
    # What is not seen may hold anything.
    unseen = ~mask.any(axis=(1, 2))  # [B, S]
    key[unseen], value[unseen] = 1e6, 1e6
    tensors = [keras.ops.convert_to_tensor(a) for a in (query, key, value)]
    again, _ = map(numpy, scaled_dot_product_attention(*tensors, mask))
    np.testing.assert_allclose(again, context, atol=1e-5)


@FEW
@given(rows=sizes, steps=sizes, units=sizes, backwards=st.booleans(), seed=seeds)
def test_masked_steps_are_as_good_as_absent(rows, steps, units, backwards, seed):
    layer = LSTM(units, return_state=True, go_backwards=backwards)
    x, mask = random(seed, rows, steps, 3), some(seed, rows, steps)
    outputs = [numpy(o) for o in layer(x, mask=mask)]
    for row in range(rows):
        kept = x[row : row + 1, mask[row]]
        alone = map(numpy, layer(kept)) if kept.shape[1] else [np.zeros((1, units))] * 3
        for ours, theirs in zip(outputs, alone, strict=True):
            np.testing.assert_allclose(ours[row : row + 1], theirs, atol=1e-5)


@FEW
@given(
    rows=sizes,
    steps=sizes,
    backwards=st.booleans(),
    zeros=st.booleans(),
    whole=st.booleans(),
    seed=seeds,
)
def test_an_unrolled_loop_is_the_loop(rows, steps, backwards, zeros, whole, seed):
    arguments = {
        "return_sequences": True,
        "return_state": True,
        "go_backwards": backwards,
        "zero_output_for_mask": zeros,
    }
    looped, unrolled = LSTM(2, **arguments), LSTM(2, unroll=True, **arguments)
    for layer in (looped, unrolled):
        layer.build((rows, steps, 3))
    unrolled.set_weights(looped.get_weights())
    x, mask = random(seed, rows, steps, 3), None if whole else some(seed, rows, steps)
    for ours, theirs in zip(looped(x, mask=mask), unrolled(x, mask=mask), strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), atol=1e-6)


@FEW
@given(rows=sizes, steps=sizes, cut=sizes, seed=seeds)
def test_two_parts_of_a_sequence_are_the_whole(rows, steps, cut, seed):
    layer = LSTM(3, return_state=True)
    x = random(seed, rows, steps + cut, 2)
    _, *state = layer(x[:, :cut])
    for ours, theirs in zip(layer(x[:, cut:], initial_state=state), layer(x), strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), atol=1e-5)


@FEW
@given(
    rows=sizes,
    steps=sizes,
    mode=st.sampled_from(["last", "mean", "max", "attention"]),
    seed=seeds,
)
def test_pooling_sees_real_steps_alone(rows, steps, mode, seed):
    layer, x, mask = MaskedPooling(mode), random(seed, rows, steps, 3), some(seed, rows, steps)
    pooled = numpy(layer(x, mask=mask))
    for row in range(rows):
        kept = x[row : row + 1, mask[row]]
        alone = numpy(layer(kept)) if kept.shape[1] else np.zeros((1, 3))
        np.testing.assert_allclose(pooled[row : row + 1], alone, atol=1e-5)


@FEW
@given(rows=sizes, steps=sizes, more=sizes, norm=st.sampled_from(["post", "pre"]), seed=seeds)
def test_masked_steps_change_no_block(rows, steps, more, norm, seed):
    block = TransformerBlock(2, 3, 5, norm=norm)
    x, mask = random(seed, rows, steps + more, 4), some(seed, rows, steps + more)
    mask[:, steps:] = False
    short, long = numpy(block(x[:, :steps], mask=mask[:, :steps])), numpy(block(x, mask=mask))
    np.testing.assert_allclose(long[:, :steps], short, atol=1e-5)


@FEW
@given(rows=sizes, steps=sizes, heads=st.integers(1, 3), seed=seeds)
def test_attention_takes_no_notice_of_the_order_of_keys(rows, steps, heads, seed):
    layer, order = MultiHeadAttention(heads, 3), np.random.default_rng(seed).permutation(steps)
    query, value, mask = (
        random(seed, rows, 2, 4),
        random(seed, rows, steps, 4),
        some(seed, rows, steps),
    )
    ours = numpy(layer(query, value, value_mask=mask))
    theirs = numpy(layer(query, value[:, order], value_mask=mask[:, order]))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@FEW
@given(rows=sizes, steps=sizes, rate=st.floats(0, 1), unknown=st.integers(1, 9), seed=seeds)
def test_word_dropout_only_makes_words_unknown(rows, steps, rate, unknown, seed):
    ids = np.random.default_rng(seed).integers(0, 9, (rows, steps)).astype("int32")
    dropped = numpy(WordDropout(rate, unknown, seed=seed)(ids, training=True))
    assert ((dropped == ids) | (dropped == unknown)).all()
    np.testing.assert_array_equal(dropped == 0, ids == 0)
