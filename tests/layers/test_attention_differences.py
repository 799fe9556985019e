"""Where multi-head attention means to differ from Keras 3.15's, which stands beside it."""

import json

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import MultiHeadAttention, scaled_dot_product_attention

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, S, D, E, F, H, K, V = 5, 11, 13, 7, 17, 29, 2, 19, 23
BACKEND = keras.backend.backend()

# Flash attention has neither dropout nor scores, and needs a GPU.
pytestmark = pytest.mark.usefixtures("no_flash_attention")


def make_pair(same_weights, shapes=((B, T, D), (B, S, E), (B, S, F)), **arguments):
    """Ours and Keras's layer, with the same weights."""
    arguments = {"num_heads": H, "key_dim": K, **arguments}
    layers = MultiHeadAttention(**arguments), stock.MultiHeadAttention(**arguments)
    return same_weights(*layers, *shapes)


def make_inputs(rng, shapes=((B, T, D), (B, S, E), (B, S, F))):
    return [rng.normal(size=s).astype("float32") for s in shapes]


LENGTHS = np.array([4, S, 1, 7, 9])[:, None]


# ---- What differs from Keras 3.15, and why


def blind_query():
    """A mask by which the query of row 1, step 3 may attend to nothing."""
    mask = np.ones((B, T, S), bool)
    mask[1, 3] = False
    return mask


def test_a_query_that_may_attend_to_nothing_gets_a_context_of_zeros(rng, same_weights, numpy):
    ours, theirs = make_pair(same_weights)
    inputs, bias = make_inputs(rng), ours.get_weights()[-1]
    for scored in (False, True):
        outputs = ours(*inputs, attention_mask=blind_query(), return_attention_scores=scored)
        output = numpy(outputs[0] if scored else outputs)
        np.testing.assert_allclose(output[1, 3], bias, atol=1e-6)
    assert (numpy(outputs[1])[1, :, 3] == 0).all()
    # Keras gives the same where scores are asked for, and where not, an average over what the
    # query must not see.
    scored, _ = theirs(*inputs, attention_mask=blind_query(), return_attention_scores=True)
    np.testing.assert_allclose(numpy(scored)[1, 3], bias, atol=1e-6)
    if BACKEND == "tensorflow":
        unscored = numpy(theirs(*inputs, attention_mask=blind_query()))
        assert np.abs(unscored[1, 3] - bias).max() > 1e-2


def test_blind_queries_spoil_no_gradient(rng, same_weights, gradients):
    layer, _ = make_pair(same_weights)
    masks = {"attention_mask": blind_query(), "value_mask": np.arange(S) < LENGTHS - 1}
    for some in gradients(layer, lambda q, v, k: layer(q, v, k, **masks), make_inputs(rng)):
        assert all(np.isfinite(array).all() for array in some)


def test_an_explicit_query_mask_counts(rng, same_weights, numpy):
    ours, theirs = make_pair(same_weights)
    inputs, mask = make_inputs(rng), np.arange(T) < LENGTHS
    output, scores = ours(*inputs, query_mask=mask, return_attention_scores=True)
    np.testing.assert_array_equal(
        numpy(scores) > 0, np.broadcast_to(mask[:, None, :, None], scores.shape)
    )
    np.testing.assert_allclose(
        numpy(output)[~mask], np.broadcast_to(ours.get_weights()[-1], (np.sum(~mask), D)), atol=1e-6
    )
    # It goes on with the output, as the query's own would.
    mean = (numpy(output) * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    np.testing.assert_allclose(numpy(stock.GlobalAveragePooling1D()(output)), mean, atol=1e-5)
    # Keras overwrites the argument with the mask that the tensor carries, here none.
    _, scores = theirs(*inputs, query_mask=mask, return_attention_scores=True)
    assert (numpy(scores) > 0).all()


def test_symbolic_scores_have_the_shape_of_the_real_ones(rng):
    query, value, key = (keras.Input((n, size)) for n, size in ((T, D), (S, E), (S, F)))
    _, scores = MultiHeadAttention(H, K)(query, value, key, return_attention_scores=True)
    assert scores.shape == (None, H, T, S)
    _, theirs = stock.MultiHeadAttention(H, K)(query, value, key, return_attention_scores=True)
    assert theirs.shape == (None, H, T, T)
    queries = keras.Input((3, T, D))
    _, scores = MultiHeadAttention(H, K, attention_axes=2)(
        queries, queries, return_attention_scores=True
    )
    assert scores.shape == (None, 3, H, T, T)


@pytest.mark.parametrize("flash", [None, False, True])
def test_no_copy_loses_flash_attention(flash):
    layer = MultiHeadAttention(H, K, flash_attention=flash)
    assert MultiHeadAttention.from_config(layer.get_config()).flash_attention is flash
    assert "flash_attention" not in stock.MultiHeadAttention(H, K).get_config()


def test_flash_attention_has_neither_dropout_nor_scores(rng):
    with pytest.raises(ValueError, match=r"[Dd]ropout"):
        MultiHeadAttention(H, K, dropout=0.1, flash_attention=True)
    layer, inputs = MultiHeadAttention(H, K, flash_attention=True), make_inputs(rng)
    with pytest.raises(ValueError, match="return_attention_scores=True"):
        layer(*inputs, return_attention_scores=True)


# ---- Half precision


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_neither_overflows_nor_loses_count(dtype, numpy):
    # A row of 4,099 weights, each below what half precision can add to one.
    steps = 4_099
    query, key = np.zeros((1, 1, 1, K), dtype="float32"), np.zeros((1, steps, 1, K), "float32")
    value = np.ones((1, steps, 1, V), "float32")
    tensors = [keras.ops.convert_to_tensor(a, dtype) for a in (query, key, value)]
    context, weights = scaled_dot_product_attention(*tensors)
    assert keras.backend.standardize_dtype(context.dtype) == dtype
    assert keras.backend.standardize_dtype(weights.dtype) == dtype
    context = numpy(keras.ops.cast(context, "float32"))
    np.testing.assert_allclose(context, np.ones_like(context), atol=1e-2)
    # Scores beyond float16's largest number, all of them, and masked ones among them.
    tensors = [keras.ops.convert_to_tensor(np.full((1, 3, 1, K), 240.0), dtype) for _ in range(3)]
    mask = np.tril(np.ones((3, 3), bool), -1)
    context, _ = scaled_dot_product_attention(*tensors, mask)
    context = numpy(keras.ops.cast(context, "float32"))
    np.testing.assert_allclose(context[0, :, 0, 0], [0.0, 240.0, 240.0], rtol=1e-2)


# ---- Bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "`num_heads` must be a positive integer, not 0"),
        ({"num_heads": 2.0}, "`num_heads` must be a positive integer, not 2.0"),
        ({"key_dim": -1}, "`key_dim` must be a positive integer, not -1"),
        ({"value_dim": 0}, "`value_dim` must be a positive integer, not 0"),
        ({"dropout": 1.1}, "`dropout` must be between 0 and 1, not 1.1"),
        ({"sliding_window": 0}, "`sliding_window` must be a positive integer, not 0"),
        ({"output_shape": 8.0}, "`output_shape`.*8.0"),
        ({"output_shape": 0}, "`output_shape` must be a positive integer, not 0"),
        ({"attention_axes": "1"}, "`attention_axes`.*'1'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**{"num_heads": H, "key_dim": K, **arguments})


@pytest.mark.parametrize("axes", [7, 0, -1, (1, 1), (1, -2)])
def test_axes_that_are_none_of_attention_are_refused(axes):
    with pytest.raises(ValueError, match=r"attention_axes=.*must be different axes between"):
        MultiHeadAttention(H, K, attention_axes=axes).build((B, T, D), (B, S, E))


def test_numpys_whole_numbers_are_whole_numbers():
    layer = MultiHeadAttention(H, K, output_shape=np.int64(F), attention_axes=np.int64(1))
    assert layer.compute_output_shape((B, T, D), (B, S, E)) == (B, T, F)
    json.dumps(layer.get_config())


def test_keys_and_values_of_unlike_lengths_are_refused():
    layer = MultiHeadAttention(H, K)
    shapes = ((B, T, D), (B, S, E), (B, S + 4, F))
    with pytest.raises(ValueError, match="must be equal"):
        layer.compute_output_shape(*shapes)
    with pytest.raises(ValueError, match="must be equal"):
        layer(*(np.ones(s, "float32") for s in shapes))


def test_masks_of_a_wrong_rank_are_refused_by_name(rng):
    layer, inputs = MultiHeadAttention(H, K), make_inputs(rng)
    with pytest.raises(ValueError, match="query_mask must have 2 axes"):
        layer(*inputs, query_mask=np.ones((B, T, 1), bool))
    with pytest.raises(ValueError, match="attention_mask must have 2 to 4 axes"):
        layer(*inputs, attention_mask=np.ones((1, B, H, T, S), bool))


def test_order_needs_one_axis(rng):
    layer = MultiHeadAttention(H, K, attention_axes=(1, 2))
    x = rng.normal(size=(B, 3, T, D)).astype("float32")
    with pytest.raises(ValueError, match="attention_axes"):
        layer(x, x, use_causal_mask=True)
