"""Multi-head attention in the place of Keras's, and against PyTorch's.

Its equations: `test_against_numpy.py`; where it means to differ: `test_attention_differences.py`.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import MultiHeadAttention

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


def seen_somewhere(*shape):
    """A random mask by which each query may attend to something."""
    mask = np.random.default_rng(4).random(shape) < 0.5
    mask[..., 0] = True
    return mask


LENGTHS = np.array([4, S, 1, 7, 9])[:, None]
MASKS = {
    "none": {},
    "right": {"value_mask": np.arange(S) < LENGTHS},
    "left": {"value_mask": np.arange(S) >= S - LENGTHS},
    "holes": {"value_mask": seen_somewhere(B, S)},
    "keys": {"key_mask": seen_somewhere(B, S)},
    "keys-and-values": {"key_mask": seen_somewhere(B, S), "value_mask": np.arange(S) < LENGTHS},
    "pairs": {"attention_mask": seen_somewhere(B, T, S)},
    "one-for-all": {"attention_mask": seen_somewhere(T, S)},
    "heads": {"attention_mask": seen_somewhere(B, H, T, S)},
    "numbers": {"attention_mask": seen_somewhere(B, T, S).astype("int32")},
    "causal": {"use_causal_mask": True},
    "causal-pairs": {"use_causal_mask": True, "attention_mask": seen_somewhere(B, T, S)},
}
CONFIGURATIONS = {
    "plain": {},
    "value-size": {"value_dim": V},
    "no-bias": {"use_bias": False},
    "output-size": {"output_shape": F},
    "output-sizes": {"output_shape": (3, F)},
    "gate": {"use_gate": True, "value_dim": V},
    "window": {"sliding_window": 3},
    "one-head": {"num_heads": 1},
}


# ---- In the place of Keras's


@pytest.mark.parametrize("method", ["__init__", "call", "build", "compute_output_shape"])
def test_signatures_are_keras_own(method):
    mine, other = (
        inspect.signature(getattr(c, method)).parameters
        for c in (MultiHeadAttention, stock.MultiHeadAttention)
    )
    extra = {n for n, p in mine.items() if p.kind is p.KEYWORD_ONLY}
    assert (extra != set()) == (method in ("__init__", "call"))
    known = [(n, p.default, p.kind) for n, p in other.items()]
    assert [(n, p.default, p.kind) for n, p in mine.items() if n not in extra] == known


def test_attributes_and_configuration_are_keras_own():
    ours, theirs = (c(H, K) for c in (MultiHeadAttention, stock.MultiHeadAttention))
    for layer in (ours, theirs):
        layer.build((B, T, D), (B, S, E))
    missing = [n for n in vars(type(theirs)) if not n.startswith("_") and not hasattr(ours, n)]
    assert missing == []
    mine, other = ours.get_config(), theirs.get_config()
    assert set(other) <= set(mine)
    # Keras's tells which axes it resolved, ours what was asked for; both mean the same.
    for config in (mine, other):
        del config["name"], config["attention_axes"]
    assert {k: v for k, v in mine.items() if k in other} == other
    assert stock.MultiHeadAttention.from_config(ours.get_config()).get_config()["num_heads"] == H
    assert MultiHeadAttention.from_config(theirs.get_config()).key_dim == K


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_weights_are_keras_own(name):
    arguments = {"num_heads": H, "key_dim": K, **CONFIGURATIONS[name]}
    described = []
    for cls in (MultiHeadAttention, stock.MultiHeadAttention):
        layer = cls(**arguments)
        layer.build((B, T, D), (B, S, E), (B, S, F))
        described.append(
            [(w.path.split("/", 1)[1], w.shape, w.dtype, w.trainable) for w in layer.weights]
        )
    assert described[0] == described[1]


def test_a_seed_gives_the_weights_that_it_gives_keras(assert_near):
    arguments = {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=3),
        "bias_initializer": keras.initializers.RandomNormal(seed=5),
    }
    layers = [c(H, K, **arguments) for c in (MultiHeadAttention, stock.MultiHeadAttention)]
    for layer in layers:
        layer.build((B, T, D), (B, S, E))
    assert_near(layers[0].get_weights(), layers[1].get_weights(), 0.0)


def compare(pair, inputs, masks, gradients, assert_near):
    """Outputs, and gradients of inputs and weights, of both; then the scores besides."""

    def attend(layer):
        # Keras 3.15 fails on JAX where a head's value has a size of its own, unless asked for
        # the scores: its fused kernel there knows one size alone.
        scored = (
            BACKEND == "jax"
            and pair[0].value_dim != K
            and isinstance(layer, stock.MultiHeadAttention)
        )
        if scored:
            return lambda q, v, k: layer(q, v, k, **masks, return_attention_scores=True)[0]
        return lambda q, v, k: layer(q, v, k, **masks)

    results = [gradients(layer, attend(layer), inputs) for layer in pair]
    names = [weight.path for weight in pair[0].trainable_weights]
    place = next((n for n, name in enumerate(names) if name.endswith("key/bias")), None)
    if place is not None:
        # It moves all scores of a query alike, so that its gradient is nothing but rounding, of
        # which each side has its own.
        for _, _, of_weights in results:
            rounding = of_weights.pop(place)
            assert_near(rounding, np.zeros_like(rounding), 2e-5)
    for mine, other in zip(*results, strict=True):
        assert_near(mine, other)
    scored = [layer(*inputs, **masks, return_attention_scores=True) for layer in pair]
    assert_near(list(scored[0]), list(scored[1]))


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_masks_do_what_they_do_in_keras(kind, rng, same_weights, gradients, assert_near):
    compare(make_pair(same_weights), make_inputs(rng), MASKS[kind], gradients, assert_near)


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_every_configuration_does_what_it_does_in_keras(
    name, rng, same_weights, gradients, assert_near
):
    # Square, so that a window leaves each query something to see.
    shapes = ((B, T, D), (B, T, E), (B, T, F))
    pair = make_pair(same_weights, shapes, **CONFIGURATIONS[name])
    masks = {"attention_mask": np.tril(np.ones((T, T), bool))}
    compare(pair, make_inputs(rng, shapes), masks, gradients, assert_near)


@pytest.mark.parametrize(
    ("steps", "others", "axes", "mask"),
    [
        ((3, 11), (3, 13), (2,), None),
        ((3, 11), (3, 13), (-2,), (B, 3, H, 11, 13)),
        ((3, 11), (2, 13), None, (B, 3, 11, 2, 13)),
        ((3, 11), (2, 13), (1, 2), (3, 11, 2, 13)),
        ((2, 3, 11), (2, 5, 13), (2, 3), None),
    ],
)
def test_attention_along_other_axes(
    steps, others, axes, mask, rng, same_weights, gradients, assert_near
):
    shapes = ((B, *steps, D), (B, *others, E), (B, *others, F))
    pair = make_pair(same_weights, shapes, attention_axes=axes)
    masks = {} if mask is None else {"attention_mask": seen_somewhere(*mask)}
    if mask is not None and len(masks["attention_mask"].shape) > 4 and axes is None:
        masks["attention_mask"][..., 0, 0] = True
    compare(pair, make_inputs(rng, shapes), masks, gradients, assert_near)


def test_attention_along_one_of_many_axes(rng, numpy):
    """Keras 3.15 fails here on TensorFlow, whose softmax takes five axes at most."""
    layer = MultiHeadAttention(H, K, attention_axes=2)
    x = rng.normal(size=(B, 3, T, 2, D)).astype("float32")
    mask = seen_somewhere(T, T)
    whole, scores = layer(x, x, attention_mask=mask, return_attention_scores=True)
    assert scores.shape == (B, 3, 2, H, T, T)
    flat = MultiHeadAttention(H, K)
    flat.build((B, T, D), (B, T, D))
    flat.set_weights(layer.get_weights())
    alone = flat(x[:, 1, :, 1], x[:, 1, :, 1], attention_mask=mask)
    np.testing.assert_allclose(numpy(whole)[:, 1, :, 1], numpy(alone), atol=1e-5)


def test_step_masks_along_other_axes(rng):
    """A mask of the steps has the inputs' own shape, whatever axes attention runs along."""
    layer = MultiHeadAttention(H, K, attention_axes=2)
    x = rng.normal(size=(B, 3, T, D)).astype("float32")
    mask = seen_somewhere(B, 3, T)
    _, scores = layer(x, x, value_mask=mask, return_attention_scores=True)
    scores = keras.ops.convert_to_numpy(scores)  # [B, 3, H, T, T]
    assert scores.shape == (B, 3, H, T, T)
    np.testing.assert_array_equal(scores > 0, np.broadcast_to(mask[:, :, None, None], scores.shape))


def test_keras_masks_do_what_they_do_in_keras(rng, assert_near):
    """Two embeddings bring their masks; the output carries the query's on."""
    ids = [np.where(np.arange(n) < LENGTHS, rng.integers(1, F, (B, n)), 0) for n in (T, S)]
    models = []
    for cls in (MultiHeadAttention, stock.MultiHeadAttention):
        inputs = [keras.Input((None,), dtype="int32") for _ in ids]
        embed = stock.Embedding(F, D, mask_zero=True, embeddings_initializer="normal")
        attended = cls(H, K)(*(embed(i) for i in inputs))
        models.append(keras.Model(inputs, [attended, stock.GlobalAveragePooling1D()(attended)]))
    models[0].set_weights(models[1].get_weights())
    ours, theirs = (model(ids) for model in models)
    real = ids[0] != 0
    both = [keras.ops.convert_to_numpy(m[0])[real] for m in (ours, theirs)]
    assert_near(*both)
    # The pooling averages over real queries alone, so the mask has come through.
    assert_near(ours[1], theirs[1])


class Remembering(MultiHeadAttention):
    """Attention of a user's own, which knows no argument but those that Keras's always has."""

    def _compute_attention(
        self, query, key, value, attention_mask=None, training=None, return_attention_scores=False
    ):
        self.mask = attention_mask
        return super()._compute_attention(
            query, key, value, attention_mask, training, return_attention_scores
        )


@pytest.mark.parametrize("kind", ["right", "causal", "causal-pairs", "none"])
def test_a_subclass_may_attend_in_its_own_way(kind, rng, same_weights, numpy, assert_near):
    _, theirs = make_pair(same_weights)
    layer, inputs = Remembering(H, K), make_inputs(rng)
    layer.build(*(x.shape for x in inputs))
    layer.set_weights(theirs.get_weights())
    assert_near(layer(*inputs, **MASKS[kind]), theirs(*inputs, **MASKS[kind]))
    assert (layer.mask is None) == (kind == "none")
    if kind == "causal":
        np.testing.assert_array_equal(numpy(layer.mask)[0, 0], np.tri(T, S, dtype=bool))


def test_a_seed_drops_what_it_drops_in_keras(rng, same_weights, assert_near):
    ours, theirs = make_pair(same_weights, dropout=0.5, seed=11)
    inputs = make_inputs(rng)
    batches = [ours(*inputs, training=True) for _ in range(3)]
    assert_near(batches, [theirs(*inputs, training=True) for _ in range(3)])
    batches = [keras.ops.convert_to_numpy(b) for b in batches]
    assert np.abs(batches[0] - batches[1]).max() > 1e-3
    assert_near(ours(*inputs), theirs(*inputs))


def test_regularizers_and_constraints_are_applied(rng, same_weights, numpy, assert_near):
    arguments = {
        f"{name}_regularizer": keras.regularizers.L2(0.1 * n)
        for n, name in enumerate(("kernel", "bias", "activity"), 1)
    }
    ours, theirs = make_pair(same_weights, **arguments, kernel_constraint="non_neg")
    inputs = make_inputs(rng)
    ours(*inputs), theirs(*inputs)
    assert_near(sorted(numpy(ours.losses)), sorted(numpy(theirs.losses)))
    for part in (ours.query_dense, ours.key_dense, ours.value_dense, ours.output_dense):
        assert type(part.kernel.constraint) is keras.constraints.NonNeg


# ---- PyTorch


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_pytorch_agrees(masked, rng, randomize, assert_near):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    width, heads = 2 * K, 2
    peer = torch.nn.MultiheadAttention(width, heads, kdim=F, vdim=E, batch_first=True)
    layer = MultiHeadAttention(heads, K)
    query, value, key = make_inputs(rng, ((B, T, width), (B, S, E), (B, S, F)))
    layer.build(query.shape, value.shape, key.shape)
    randomize(layer)
    weights = {w.path.split("/", 1)[1]: a for w, a in zip(layer.weights, layer.get_weights())}  # noqa: B905
    with torch.no_grad():
        for name, matrix in (
            ("query", peer.q_proj_weight),
            ("key", peer.k_proj_weight),
            ("value", peer.v_proj_weight),
        ):
            kernel = weights[f"{name}/kernel"]
            matrix.copy_(torch.tensor(kernel.reshape(kernel.shape[0], width).T))
        names = ("query", "key", "value")
        biases = np.concatenate([weights[f"{name}/bias"].ravel() for name in names])
        peer.in_proj_bias.copy_(torch.tensor(biases))
        out = weights["attention_output/kernel"].reshape(width, width)
        peer.out_proj.weight.copy_(torch.tensor(out.T))
        peer.out_proj.bias.copy_(torch.tensor(weights["attention_output/bias"]))
        mask = np.arange(S) < LENGTHS
        # PyTorch's mask is true where attending is forbidden.
        padding = torch.tensor(~mask) if masked else None
        tensors = (torch.tensor(a) for a in (query, key, value))
        expected, scores = peer(
            *tensors, key_padding_mask=padding, average_attn_weights=False, need_weights=True
        )
    ours = layer(
        query, value, key, value_mask=mask if masked else None, return_attention_scores=True
    )
    assert_near(list(ours), [expected.numpy(), scores.numpy()])
