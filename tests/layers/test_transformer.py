"""What the Transformer's block adds to its parts; its equations: `test_against_numpy.py`."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import MultiHeadAttention, TransformerBlock

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, H, K, F = 5, 11, 7, 2, 19, 29
NORMS = ("post", "pre")
LENGTHS = np.array([4, T, 1, 7, 9])[:, None]
MASK = np.arange(T) < LENGTHS


def make_block(**arguments):
    return TransformerBlock(H, K, F, **arguments)


def random(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def keras_block(norm, inputs):
    """The same of Keras's own layers, wired as the papers draw them."""
    attention = stock.MultiHeadAttention(H, K)
    norms = [stock.LayerNormalization(epsilon=1e-6) for _ in range(2)]
    inner, outer = stock.Dense(F, activation="gelu"), stock.Dense(D)
    if norm == "post":
        x = norms[0](inputs + attention(inputs, inputs))
        output = norms[1](x + outer(inner(x)))
    else:
        normed = norms[0](inputs)
        x = inputs + attention(normed, normed)
        output = x + outer(inner(norms[1](x)))
    weights = [w for part in (attention, inner, outer, *norms) for w in part.weights]
    return keras.Model(inputs, output), weights


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_what_keras_layers_make(norm, rng, randomize, gradients, assert_near):
    ours, x = make_block(norm=norm, activation="gelu"), random(rng, B, T, D)
    ours.build((B, T, D))
    randomize(ours)
    theirs, weights = keras_block(norm, keras.Input((None, D)))
    for weight, value in zip(weights, ours.get_weights(), strict=True):
        weight.assign(value)
    mine = gradients(ours, ours, [x])
    other = gradients(theirs, theirs, [x])
    # By a sum that no gradient makes nothing of: several add up to zero, but for rounding.
    by_size = [sorted(side[2], key=lambda g: (g.shape, np.abs(g).sum())) for side in (mine, other)]
    assert_near([*mine[:2]], [*other[:2]])
    assert_near(*by_size)


@pytest.mark.parametrize("norm", NORMS)
def test_no_step_sees_one_after_it_under_a_causal_mask(norm, rng, numpy):
    block, x = make_block(norm=norm), random(rng, B, T, D)
    changed = x.copy()
    changed[:, 6:] += 1.0
    first, second = (numpy(block(a, use_causal_mask=True)) for a in (x, changed))
    np.testing.assert_allclose(first[:, :6], second[:, :6], atol=1e-6)
    assert np.abs(first[:, 6:] - second[:, 6:]).max() > 1e-3
    tril = np.tril(np.ones((T, T), bool))
    np.testing.assert_allclose(numpy(block(x, attention_mask=tril)), first, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_keras_mask_counts_beside_an_attention_mask_and_goes_on(norm, rng, numpy, assert_near):
    ids = np.where(MASK, rng.integers(1, F, (B, T)), 0)
    block, embed = make_block(norm=norm), stock.Embedding(F, D, mask_zero=True)
    explicit = block(numpy(embed(ids)), mask=MASK)
    everything = np.ones((B, T, T), bool)
    for carried in (block(embed(ids)), block(embed(ids), attention_mask=everything)):
        assert_near(carried, explicit)
        # The pooling averages over real steps alone, so the mask has come through.
        mean = (numpy(explicit) * MASK[..., None]).sum(1) / LENGTHS
        assert_near(stock.GlobalAveragePooling1D()(carried), mean)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", [None, "alibi", "relative"])
def test_step_by_step_gives_what_all_at_once_gives(norm, position, rng, numpy, assert_near):
    block, x = make_block(norm=norm, position=position), random(rng, B, T, D)
    with pytest.raises(ValueError, match="needs a layer that is built"):
        block.init_cache(B, T)
    whole, cache, outputs, index = block(x, use_causal_mask=True), block.init_cache(B, T), [], 0
    for size in (3, 1, 1, T - 5):
        output, cache = block(x[:, index : index + size], cache=cache, cache_index=index)
        outputs.append(numpy(output))
        index += size
    assert_near(np.concatenate(outputs, 1), whole)


def test_the_symbolic_output_has_the_cache_with_it():
    block = make_block()
    block.build((B, T, D))
    cache = [keras.KerasTensor(part.shape, part.dtype) for part in block.init_cache(B, T)]
    output, grown = block(keras.KerasTensor((B, 1, D)), cache=cache, cache_index=0)
    assert output.shape == (B, 1, D)
    assert [part.shape for part in grown] == [part.shape for part in cache]


def test_each_half_drops_for_itself(rng, numpy):
    """Weights of zero, and a dropout of ones: what is left shows what each half dropped."""
    block = make_block(norm="pre", dropout=0.5, seed=3, activation="linear")
    block.build((B, T, D))
    block.set_weights([np.zeros(w.shape) for w in block.weights])
    block.attention.output_dense.bias.assign(np.ones(D))
    block.outer.bias.assign(np.full(D, 100.0))
    output = numpy(block(np.zeros((B, T, D), "float32"), training=True))
    # Each half adds twice its bias, or nothing: 0, 2, 200 or 202.
    assert set(output.ravel()) == {0.0, 2.0, 200.0, 202.0}
    assert (numpy(block(np.zeros((B, T, D), "float32"))) == 101.0).all()


def test_its_parts_are_ours_and_under_its_policy():
    block = make_block(dtype="mixed_bfloat16")
    block.build((B, T, D))
    assert isinstance(block.attention, MultiHeadAttention)
    parts = [block.attention, block.inner, block.outer, block.attention_norm, block.network_norm]
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "`num_heads` must be a positive integer, not 0"),
        ({"key_dim": 1.5}, "`key_dim` must be a positive integer, not 1.5"),
        ({"feedforward_dim": 0}, "`feedforward_dim` must be a positive integer, not 0"),
        ({"dropout": 2}, "`dropout` must be between 0 and 1, not 2"),
        ({"attention_dropout": -1}, "`attention_dropout` must be between 0 and 1, not -1"),
        ({"norm": "last"}, "`norm` must be one of 'post', 'pre', not 'last'"),
        ({"activation": "relyou"}, "relyou"),
        ({"epsilon": -1.0}, "`epsilon` must be above 0, not -1.0"),
        ({"position": "far"}, "`position` must be one of 'rotary', 'alibi', 'relative', not 'far'"),
        ({"position": "rotary", "key_dim": 3}, "position='rotary' needs an even key_dim, not 3"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {"num_heads": H, "key_dim": K, "feedforward_dim": F, **arguments}
    with pytest.raises(ValueError, match=message):
        TransformerBlock(**arguments)
