"""Multi-head attention against Keras's and PyTorch's; its equations: `test_against_numpy.py`."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import MultiHeadAttention, scaled_dot_product_attention

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, S, D, E, F, H, K, V = 5, 11, 13, 7, 17, 29, 2, 19, 23
BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def _no_flash():
    # Flash attention has neither dropout nor scores, and needs a GPU.
    keras.config.disable_flash_attention()
    yield
    keras.config.enable_flash_attention()


def make_pair(randomize, shapes=((B, T, D), (B, S, E), (B, S, F)), **arguments):
    """Ours and Keras's layer, with the same weights."""
    arguments = {"num_heads": H, "key_dim": K, **arguments}
    ours, theirs = MultiHeadAttention(**arguments), stock.MultiHeadAttention(**arguments)
    for layer in (ours, theirs):
        layer.build(*shapes)
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


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
    known = [(n, p.default, p.kind) for n, p in other.items()]
    assert [(n, p.default, p.kind) for n, p in mine.items()] == known


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
    for mine, other in zip(*results, strict=True):
        assert_near(mine, other)
    scored = [layer(*inputs, **masks, return_attention_scores=True) for layer in pair]
    assert_near(list(scored[0]), list(scored[1]))


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_masks_do_what_they_do_in_keras(kind, rng, randomize, gradients, assert_near):
    compare(make_pair(randomize), make_inputs(rng), MASKS[kind], gradients, assert_near)


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_every_configuration_does_what_it_does_in_keras(
    name, rng, randomize, gradients, assert_near
):
    # Square, so that a window leaves each query something to see.
    shapes = ((B, T, D), (B, T, E), (B, T, F))
    pair = make_pair(randomize, shapes, **CONFIGURATIONS[name])
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
    steps, others, axes, mask, rng, randomize, gradients, assert_near
):
    shapes = ((B, *steps, D), (B, *others, E), (B, *others, F))
    pair = make_pair(randomize, shapes, attention_axes=axes)
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


def test_weight_files_go_both_ways(rng, randomize, tmp_path, assert_near):
    models = []
    for cls in (MultiHeadAttention, stock.MultiHeadAttention):
        query, value = keras.Input((None, D)), keras.Input((None, E))
        models.append(keras.Model([query, value], cls(H, K, use_gate=True)(query, value)))
    inputs = make_inputs(rng)[:2]
    for seed, (one, other) in enumerate((models, models[::-1])):
        randomize(one, seed=seed)
        one.save_weights(tmp_path / "some.weights.h5")
        other.load_weights(tmp_path / "some.weights.h5")
        assert_near(one(inputs), other(inputs))


def test_a_seed_drops_what_it_drops_in_keras(rng, randomize, assert_near):
    ours, theirs = make_pair(randomize, dropout=0.5, seed=11)
    inputs = make_inputs(rng)
    batches = [ours(*inputs, training=True) for _ in range(3)]
    assert_near(batches, [theirs(*inputs, training=True) for _ in range(3)])
    batches = [keras.ops.convert_to_numpy(b) for b in batches]
    assert np.abs(batches[0] - batches[1]).max() > 1e-3
    assert_near(ours(*inputs), theirs(*inputs))


def test_regularizers_and_constraints_are_applied(rng, randomize, numpy, assert_near):
    arguments = {
        f"{name}_regularizer": keras.regularizers.L2(0.1 * n)
        for n, name in enumerate(("kernel", "bias", "activity"), 1)
    }
    ours, theirs = make_pair(randomize, **arguments, kernel_constraint="non_neg")
    inputs = make_inputs(rng)
    ours(*inputs), theirs(*inputs)
    assert_near(sorted(numpy(ours.losses)), sorted(numpy(theirs.losses)))
    for part in (ours.query_dense, ours.key_dense, ours.value_dense, ours.output_dense):
        assert type(part.kernel.constraint) is keras.constraints.NonNeg


# ---- What differs from Keras 3.15, and why


def blind_query():
    """A mask by which the query of row 1, step 3 may attend to nothing."""
    mask = np.ones((B, T, S), bool)
    mask[1, 3] = False
    return mask


def test_a_query_that_may_attend_to_nothing_gets_a_context_of_zeros(rng, randomize, numpy):
    ours, theirs = make_pair(randomize)
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


def test_blind_queries_spoil_no_gradient(rng, randomize, gradients):
    layer, _ = make_pair(randomize)
    masks = {"attention_mask": blind_query(), "value_mask": np.arange(S) < LENGTHS - 1}
    for some in gradients(layer, lambda q, v, k: layer(q, v, k, **masks), make_inputs(rng)):
        assert all(np.isfinite(array).all() for array in some)


def test_an_explicit_query_mask_counts(rng, randomize, numpy):
    ours, theirs = make_pair(randomize)
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
