"""What multi-head attention has and Keras's lacks, against equations written out in NumPy."""

import keras
import numpy as np
import pytest

from zoo.layers import MultiHeadAttention

# Every dimension is its own prime, so that a swapped axis cannot pass; but heads must share.
B, T, S, D, E, F, H, G, K, V = 5, 11, 13, 7, 17, 29, 6, 3, 10, 23
BUCKETS, FARTHEST = 8, 7


def numpy_slopes(heads):
    """The slopes of the paper for a power of two; its code's for other numbers."""
    if heads & (heads - 1) == 0:
        return [2.0 ** (-8.0 * (h + 1) / heads) for h in range(heads)]
    below = 2 ** int(np.log2(heads))
    return numpy_slopes(below) + numpy_slopes(2 * below)[::2][: heads - below]


def numpy_bucket(before, both_ways):
    """T5's bucket of a key that stands `before` steps before its query; in whole numbers."""
    side = BUCKETS // 2 if both_ways else BUCKETS
    start = side if both_ways and before < 0 else 0
    far = abs(before) if both_ways else max(before, 0)
    exact = side // 2
    if far < exact:
        return start + far
    # The largest n with far >= exact * (FARTHEST / exact)^(n / (side - exact)).
    rest = side - exact
    n = max(n for n in range(rest + 1) if far**rest * exact**n >= FARTHEST**n * exact**rest)
    return start + exact + min(n, rest - 1)


def numpy_turned(x, wavelength):
    """Pairs as complex numbers, turned by as many radians as the wave has come."""
    half = x.shape[-1] // 2
    pairs = x[..., :half] + 1j * x[..., half:]  # [B, T, H, K/2]
    waves = wavelength ** -(np.arange(half) / half)
    pairs = pairs * np.exp(1j * np.arange(x.shape[1])[:, None] * waves)[None, :, None]
    return np.concatenate([pairs.real, pairs.imag], -1)


def numpy_layer(layer, query, value, key, allowed, bias=None):
    """Output and weights of the layer, by its equations in float64."""
    named = {
        w.path.split("/", 1)[1]: keras.ops.convert_to_numpy(w).astype("float64")
        for w in layer.weights
    }

    def project(x, name):
        kernel, added = named[f"{name}/kernel"], named[f"{name}/bias"]
        return np.einsum("btd,dhk->bthk", x, kernel) + added

    query, key, value = project(query, "query"), project(key, "key"), project(value, "value")
    if layer.qk_norm:
        query, key = (
            x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * named[f"{name}_norm/scale"]
            for name, x in (("query", query), ("key", key))
        )
    if layer.position == "rotary":
        query, key = (numpy_turned(x, layer.rotary_max_wavelength) for x in (query, key))
    share = H // key.shape[2]
    scores = np.zeros((len(query), H, query.shape[1], key.shape[1]))
    for h in range(H):
        scores[:, h] = np.einsum("btk,bsk->bts", query[:, :, h], key[:, :, h // share])
    scores /= np.sqrt(K)
    if layer.logits_soft_cap:
        scores = layer.logits_soft_cap * np.tanh(scores / layer.logits_soft_cap)
    before = np.arange(scores.shape[2])[:, None] - np.arange(scores.shape[3])
    if layer.position == "alibi":
        scores -= np.array(numpy_slopes(H))[:, None, None] * abs(before)
    if layer.position == "relative":
        buckets = np.vectorize(lambda n: numpy_bucket(n, layer.relative_bidirectional))(before)
        scores += np.moveaxis(named["relative_position/embeddings"][buckets], -1, 0)
    if bias is not None:
        scores = scores + bias
    allowed = np.broadcast_to(allowed, scores.shape)
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * allowed
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    context = np.stack(
        [weights[:, h] @ value[:, :, h // share] for h in range(H)], axis=2
    )  # [B, T, H, V]
    out = np.einsum("bthv,hve->bte", context, named["attention_output/kernel"])
    return out + named["attention_output/bias"], weights


OPTIONS = {
    "grouped": {"num_kv_heads": G},
    "one-for-all": {"num_kv_heads": 1, "value_dim": V},
    "rotary": {"position": "rotary"},
    "rotary-grouped": {"position": "rotary", "num_kv_heads": G, "rotary_max_wavelength": 50.0},
    "alibi": {"position": "alibi"},
    "alibi-window": {"position": "alibi", "sliding_window": 3, "num_kv_heads": 2},
    "relative": {
        "position": "relative",
        "relative_num_buckets": BUCKETS,
        "relative_max_distance": FARTHEST,
    },
    "relative-backwards": {
        "position": "relative",
        "relative_num_buckets": BUCKETS,
        "relative_max_distance": FARTHEST,
        "relative_bidirectional": False,
    },
    "soft-cap": {"logits_soft_cap": 0.7},
    "soft-cap-alibi": {"logits_soft_cap": 0.7, "position": "alibi"},
    "qk-norm": {"qk_norm": True},
    "qk-norm-rotary": {"qk_norm": True, "position": "rotary", "logits_soft_cap": 2.0},
}
SHAPES = ((B, T, D), (B, S, E), (B, S, F))


def make_layer(randomize, shapes=SHAPES, **options):
    layer = MultiHeadAttention(**{"num_heads": H, "key_dim": K, **options})
    layer.build(*shapes)
    randomize(layer)
    return layer


def make_inputs(rng, shapes=SHAPES):
    return [rng.normal(size=s).astype("float32") for s in shapes]


def make_masks():
    """Masks as the call takes them, and what they allow together, `bool[B, H, T, S]`."""
    rng = np.random.default_rng(4)
    pairs = rng.random((B, H, T, S)) < 0.7
    pairs[1, 2, 3] = False
    queries, values = rng.random((B, T)) < 0.8, rng.random((B, S)) < 0.8
    given = {"attention_mask": pairs, "query_mask": queries, "value_mask": values}
    allowed = pairs & queries[:, None, :, None] & values[:, None, None, :]
    causal = np.tri(T, S, dtype=bool)
    return {
        "none": ({}, np.ones((1, 1, T, S), bool)),
        "causal": ({"use_causal_mask": True}, causal[None, None]),
        "all": ({**given, "use_causal_mask": True}, allowed & causal),
    }


def windowed(layer, allowed):
    before = np.arange(T)[:, None] - np.arange(S)
    window = layer.sliding_window or S + T
    return allowed & (abs(before) < window)


@pytest.mark.parametrize("masked", make_masks())
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_does_what_its_equation_says(name, masked, rng, randomize, assert_near):
    layer, inputs = make_layer(randomize, **OPTIONS[name]), make_inputs(rng)
    masks, allowed = make_masks()[masked]
    expected = numpy_layer(layer, *inputs, windowed(layer, allowed))
    assert_near(list(layer(*inputs, **masks, return_attention_scores=True)), list(expected))
    assert_near(layer(*inputs, **masks), expected[0])
    # Without the option, it is another layer.
    kept = {"num_kv_heads": layer.num_kv_heads, "value_dim": layer.value_dim}
    if set(OPTIONS[name]) - set(kept):
        plain = MultiHeadAttention(H, K, **kept)
        plain.build(*SHAPES)
        plain.set_weights(layer.get_weights()[: len(plain.weights)])
        output = keras.ops.convert_to_numpy(plain(*inputs, **masks))
        assert np.abs(output - expected[0]).max() > 1e-3


@pytest.mark.parametrize("shape", [(T, S), (H, T, S), (B, 1, 1, S), (B, H, T, S)])
@pytest.mark.parametrize("name", ["rotary", "alibi", "relative", "soft-cap"])
def test_a_bias_is_added_to_the_scores(name, shape, rng, randomize, assert_near):
    layer, inputs = make_layer(randomize, **OPTIONS[name]), make_inputs(rng)
    bias = rng.normal(size=shape).astype("float32")
    masks, allowed = make_masks()["all"]
    expected = numpy_layer(layer, *inputs, allowed, bias)
    assert_near(
        list(layer(*inputs, **masks, bias=bias, return_attention_scores=True)), list(expected)
    )
    assert_near(layer(*inputs, **masks, bias=bias), expected[0])


def test_a_bias_has_a_gradient(rng, randomize, gradients):
    layer, (query, value, key) = make_layer(randomize), make_inputs(rng)
    bias = rng.normal(size=(H, T, S)).astype("float32")

    def call(given):
        return layer(query, value, key, bias=given)

    _, (ours,), _ = gradients(layer, call, [bias])
    step = 1e-2
    for place in ((0, 0, 0), (3, 5, 7)):
        moved = bias.copy()
        moved[place] += step
        ahead, _, _ = gradients(layer, call, [moved])
        moved[place] -= 2 * step
        behind, _, _ = gradients(layer, call, [moved])
        # As `gradients` weighs the outputs.
        weigh = np.cos(np.arange(ahead[0].size)).reshape(ahead[0].shape)
        slope = ((ahead[0].astype("float64") - behind[0]) * weigh).sum() / (2 * step)
        np.testing.assert_allclose(ours[place], slope, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_long_sequences_give_the_same_unscored(name, rng, randomize, gradients, assert_near):
    """Where not all scores are kept, by the fastest way that the backend has."""
    shapes = ((2, 150, D), (2, 310, D), (2, 310, D))
    layer, inputs = make_layer(randomize, shapes, **OPTIONS[name]), make_inputs(rng, shapes)
    lengths = np.array([[310], [97]])
    masks = {"value_mask": np.arange(310) < lengths, "use_causal_mask": name != "relative"}
    fast = gradients(layer, lambda *x: layer(*x, **masks), inputs)
    scored = gradients(
        layer, lambda *x: layer(*x, **masks, return_attention_scores=True)[0], inputs
    )
    for ours, theirs in zip(fast, scored, strict=True):
        assert_near(ours, theirs, 2e-5)


def test_options_are_kept_and_those_that_are_off_are_not_told():
    off = MultiHeadAttention(H, K).get_config()
    for name, options in OPTIONS.items():
        layer = MultiHeadAttention(H, K, **options)
        config = layer.get_config()
        added = {key for key in config if key not in off}
        assert added == {key for key in options if key not in off}, name
        again = MultiHeadAttention.from_config(config)
        assert again.get_config() == config
        assert all(getattr(again, key) == value for key, value in options.items())


def test_weights_of_options_come_last(randomize):
    layer = make_layer(randomize, position="relative", qk_norm=True, num_kv_heads=G, value_dim=V)
    named = [(w.path.split("/", 1)[1], tuple(w.shape)) for w in layer.weights]
    assert named == [
        ("query/kernel", (D, H, K)),
        ("query/bias", (H, K)),
        ("key/kernel", (F, G, K)),
        ("key/bias", (G, K)),
        ("value/kernel", (E, G, V)),
        ("value/bias", (G, V)),
        ("attention_output/kernel", (H, V, D)),
        ("attention_output/bias", (D,)),
        ("query_norm/scale", (K,)),
        ("key_norm/scale", (K,)),
        ("relative_position/embeddings", (32, H)),
    ]


@pytest.mark.parametrize("position", ["rotary", "alibi", "relative"])
def test_positions_along_another_axis(position, rng, randomize, numpy, assert_near):
    """Each row of the others is a sequence by itself."""
    x = rng.normal(size=(B, 3, T, D)).astype("float32")
    layer = make_layer(
        randomize, [x.shape] * 2, position=position, attention_axes=2, num_kv_heads=G
    )
    alone = MultiHeadAttention(H, K, position=position, num_kv_heads=G)
    alone.build((B, T, D), (B, T, D))
    alone.set_weights(layer.get_weights())
    whole = numpy(layer(x, x, use_causal_mask=True))
    for row in range(3):
        assert_near(whole[:, row], alone(x[:, row], x[:, row], use_causal_mask=True))


@pytest.mark.parametrize("position", ["rotary", "alibi", "relative"])
def test_positions_tell_a_distance_and_no_place(position, rng, randomize, numpy, assert_near):
    layer = make_layer(randomize, ((B, T, D), (B, T, D)), position=position)
    x = rng.normal(size=(B, T, D)).astype("float32")
    longer = np.pad(x, ((0, 0), (37, 0), (0, 0)), constant_values=3.0)
    real = np.broadcast_to(np.arange(T + 37) >= 37, (B, T + 37))
    assert_near(numpy(layer(longer, longer, value_mask=real))[:, 37:], layer(x, x), 2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_kv_heads": 4}, "num_kv_heads=4 must divide num_heads=6"),
        ({"num_kv_heads": 0}, "`num_kv_heads` must be a positive integer, not 0"),
        ({"position": "absolute"}, "`position` must be one of 'rotary', .*, not 'absolute'"),
        ({"position": "rotary", "key_dim": 7}, "position='rotary' needs an even key_dim, not 7"),
        ({"rotary_max_wavelength": 1}, "`rotary_max_wavelength` must be above 1, not 1"),
        ({"relative_num_buckets": 6}, "relative_num_buckets=6 must be a multiple of 4"),
        ({"relative_max_distance": 8}, "`relative_max_distance` must be above 8, not 8"),
        ({"logits_soft_cap": 0.0}, "`logits_soft_cap` must be above 0, not 0.0"),
        ({"logits_soft_cap": 1.0, "flash_attention": True}, "logits_soft_cap=None, not 1.0"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**{"num_heads": H, "key_dim": K, **arguments})


def test_positions_need_one_axis():
    with pytest.raises(ValueError, match=r"position='alibi' needs one attention axis"):
        MultiHeadAttention(H, K, position="alibi").build((B, 3, T, D), (B, 3, T, D))


@pytest.mark.parametrize("shape", [(S, T), (B, T, S), (1, B, H, T, S)])
def test_a_bias_that_does_not_fit_is_refused(shape, rng):
    with pytest.raises(ValueError, match=r"bias of the shape .* does not broadcast"):
        MultiHeadAttention(H, K)(*make_inputs(rng), bias=np.zeros(shape, "float32"))


def test_the_soft_cap_that_keras_takes_and_does_not_use(rng, numpy):
    """Keras's function has it, but refuses it off a TPU; its backends take it and do nothing."""
    from keras.src.backend import nn

    x = rng.normal(size=(B, T, H, K), scale=5.0).astype("float32")
    tensor = keras.ops.convert_to_tensor(x)
    with pytest.raises(ValueError, match="only supported for JAX on TPU"):
        keras.ops.dot_product_attention(tensor, tensor, tensor, attn_logits_soft_cap=0.5)
    capped = nn.dot_product_attention(tensor, tensor, tensor, attn_logits_soft_cap=0.5)
    free = nn.dot_product_attention(tensor, tensor, tensor)
    np.testing.assert_array_equal(numpy(capped), numpy(free))
    layer, y = MultiHeadAttention(H, K, logits_soft_cap=0.5), x[..., 0]
    _, weights = layer(y, y, return_attention_scores=True)
    # No two scores are more than twice the cap apart.
    assert (numpy(weights) > np.exp(-1) / T / 1.001).all()
