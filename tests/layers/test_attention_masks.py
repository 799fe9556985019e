"""Masks of attention of every rank: true means may attend, and what does not fit is refused."""

import keras
import numpy as np
import pytest

from zoo.layers import MultiHeadAttention
from zoo.layers.attention_masks import full_rank

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, S, D, H, K = 5, 11, 13, 7, 2, 19


@pytest.fixture
def inputs(rng):
    return [rng.normal(size=s).astype("float32") for s in ((B, T, D), (B, S, D))]


def some(*shape):
    return np.random.default_rng(4).random(shape) < 0.6


@pytest.mark.parametrize(
    ("mask", "place"),
    [
        (some(B, S), (slice(None), None, None)),
        (some(1, S), (slice(None), None, None)),
        (some(T, S), (None, None)),
        (some(B, T, S), (slice(None), None)),
        (some(1, T, S), (slice(None), None)),
        (some(B, 1, S), (slice(None), None)),
        (some(B, 1, T, S), ()),
        (some(1, H, T, S), ()),
        (some(B, H, T, S), ()),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
@pytest.mark.parametrize("kind", ["bool", "int32", "float32"])
def test_a_mask_of_any_rank_says_who_may_attend(mask, place, kind, inputs, numpy):
    layer = MultiHeadAttention(H, K)
    given = mask.astype(kind)
    output, scores = layer(*inputs, attention_mask=given, return_attention_scores=True)
    allowed = np.broadcast_to(mask[place], (B, H, T, S))
    np.testing.assert_array_equal(numpy(scores) > 0, allowed)
    np.testing.assert_allclose(
        numpy(layer(*inputs, attention_mask=given)), numpy(output), atol=1e-5
    )


def test_a_mask_of_keys_is_the_value_s_own(inputs, assert_near):
    layer, mask = MultiHeadAttention(H, K), some(B, S)
    assert_near(layer(*inputs, attention_mask=mask), layer(*inputs, value_mask=mask))


@pytest.mark.parametrize("name", ["query_mask", "value_mask", "key_mask", "attention_mask"])
def test_a_mask_may_be_a_list(name, inputs, assert_near):
    shapes = {"query_mask": (B, T), "attention_mask": (B, T, S)}
    layer, mask = MultiHeadAttention(H, K), some(*shapes.get(name, (B, S)))
    assert_near(*(layer(*inputs, **{name: given}) for given in (mask.tolist(), mask)))


def test_where_a_mask_could_be_of_keys_or_of_pairs_it_is_of_keys():
    keys = full_rank(keras.ops.ones((3, 7)), (1,), (3, 2, 3, 7))
    assert keys.shape == (3, 1, 1, 7)
    # Keras's reading can be had by an axis for the batch.
    assert full_rank(keras.ops.ones((1, 3, 7)), (1,), (3, 2, 3, 7)).shape == (1, 1, 3, 7)


@pytest.mark.parametrize(
    ("given", "scores", "axis"),
    [
        ((7, 9), (None, 2, 7, 9), "pairs"),
        ((7, 9), (None, 2, None, 9), "pairs"),
        ((None, 9), (None, 2, 7, 9), "keys"),
        ((None, 9), (None, 2, None, None), "keys"),
        ((5, 9), (5, 2, None, 9), "keys"),
    ],
)
def test_unknown_sizes_decide_by_what_is_known(given, scores, axis):
    shape = full_rank(keras.KerasTensor(given, dtype="bool"), (1,), scores).shape
    assert shape == ((1, 1, *given) if axis == "pairs" else (given[0], 1, 1, given[1]))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"attention_mask": (S,)}, r"attention_mask must have 2 to 4 axes, not the shape \(13,\)"),
        ({"attention_mask": (1, B, H, T, S)}, "attention_mask must have 2 to 4 axes"),
        ({"attention_mask": (B, T)}, r"attention_mask of the shape \(5, 11\) does not broadcast"),
        ({"attention_mask": (B, S, T)}, r"attention_mask of the shape \(5, 13, 11\)"),
        ({"attention_mask": (H, T, S)}, r"attention_mask of the shape \(2, 11, 13\)"),
        ({"attention_mask": (B, H + 1, T, S)}, r"attention_mask of the shape \(5, 3, 11, 13\)"),
        ({"query_mask": (B, S)}, r"query_mask of the shape \(5, 13\)"),
        ({"value_mask": (B, T)}, r"value_mask of the shape \(5, 11\)"),
        ({"key_mask": (B + 1, S)}, r"key_mask of the shape \(6, 13\)"),
        ({"query_mask": (B, T, 1)}, r"query_mask must have 2 axes, not the shape \(5, 11, 1\)"),
        ({"value_mask": (S,)}, r"value_mask must have 2 axes, not the shape \(13,\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(masks, message, inputs):
    masks = {name: np.ones(shape, bool) for name, shape in masks.items()}
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(H, K)(*inputs, **masks)


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize(
    "masks",
    [
        {"attention_mask": np.arange(T)[None, :, None] != 3},
        {"query_mask": np.arange(T)[None].repeat(B, 0) != 3},
        {"value_mask": np.arange(B)[:, None].repeat(S, 1) != 3},
        {"attention_mask": np.zeros((B, H, T, S), bool)},
    ],
    ids=["one query", "one padded query", "one row", "all"],
)
def test_who_may_attend_to_nothing_gets_zeros_on_every_path(masks, scored, inputs, numpy):
    masks = {
        n: np.broadcast_to(m, (B, T, S)) if n == "attention_mask" and m.ndim == 3 else m
        for n, m in masks.items()
    }
    layer = MultiHeadAttention(H, K, bias_initializer="ones", num_kv_heads=1, position="alibi")
    outputs = layer(*inputs, **masks, return_attention_scores=scored)
    output = numpy(outputs[0] if scored else outputs)
    blind = np.zeros((B, T), bool)
    for name, mask in masks.items():
        seen = mask.reshape(B, -1, T, S).any((1, 3)) if name == "attention_mask" else mask
        blind |= ~seen if name != "value_mask" else ~seen.any(1, keepdims=True)
    assert blind.any()
    np.testing.assert_allclose(output[blind], 1.0, atol=1e-6)
    assert blind.all() or np.abs(output[~blind] - 1.0).max() > 1e-2
