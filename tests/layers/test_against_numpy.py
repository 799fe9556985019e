"""Every layer against its equations, written out once more in NumPy and float64."""

import keras
import numpy as np
import pytest

from zoo.layers import (
    LSTM,
    LearnedPositions,
    LSTMCell,
    LSTMState,
    MaskedPooling,
    MultiHeadAttention,
    SinusoidalPositions,
    TransformerBlock,
    lstm_step,
    scaled_dot_product_attention,
)

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, S, D, E, U, H, K, V, F = 5, 11, 13, 7, 17, 3, 2, 19, 23, 29
GATES = "ifco"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def random(*shape, seed=0, scale=0.4):
    return np.random.default_rng([seed, *shape]).normal(size=shape, scale=scale)


def step_masks():
    """Each kind of mask by name, `bool[B, T]`."""
    steps = np.arange(T)
    lengths = np.array([4, T, 1, 7, 9])[:, None]
    holes = np.random.default_rng(4).random((B, T)) < 0.6
    whole_row = steps < lengths
    whole_row[1] = False
    return {
        "none": None,
        "right": steps < lengths,
        "left": steps >= T - lengths,
        "holes": holes,
        "one row masked": whole_row,
        "one step": np.broadcast_to(steps == 5, (B, T)),
        "nothing real": np.zeros((B, T), bool),
    }


MASKS = step_masks()


def lstm_gates():
    """One matrix on `[h, x]` and one bias for each gate, as the equations have it."""
    weights = {g: random(U + D, U, seed=n) for n, g in enumerate(GATES)}
    biases = {g: random(U, seed=10 + n) for n, g in enumerate(GATES)}
    return weights, biases


def packed(weights, biases):
    """The three arrays that the layer keeps."""
    kernel = np.concatenate([weights[g][U:] for g in GATES], axis=1)  # [D, 4U]
    recurrent = np.concatenate([weights[g][:U] for g in GATES], axis=1)  # [U, 4U]
    return [kernel, recurrent, np.concatenate([biases[g] for g in GATES])]


def numpy_step(x, h, c, weights, biases):
    hx = np.concatenate([h, x])  # [U + D]
    f = sigmoid(hx @ weights["f"] + biases["f"])
    i = sigmoid(hx @ weights["i"] + biases["i"])
    g = np.tanh(hx @ weights["c"] + biases["c"])
    c = f * c + i * g
    o = sigmoid(hx @ weights["o"] + biases["o"])
    return o * np.tanh(c), c


def numpy_lstm(x, weights, biases, mask=None, state=None, backwards=False, zeros=False):
    """Row by row and step by step: the outputs of all steps, and the last states."""
    outputs, hiddens, cells = np.zeros((B, T, U)), np.zeros((B, U)), np.zeros((B, U))
    for b in range(B):
        h, c = (np.zeros(U), np.zeros(U)) if state is None else (state[0][b], state[1][b])
        shown = np.zeros(U)
        for place, t in enumerate(reversed(range(T)) if backwards else range(T)):
            real = mask is None or mask[b, t]
            if real:
                h, c = numpy_step(x[b, t], h, c, weights, biases)
                shown = h
            outputs[b, place] = shown if real or not zeros else 0.0
        hiddens[b], cells[b] = h, c
    return outputs, hiddens, cells


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("mask", MASKS)
def test_lstm(mask, backwards, unroll, assert_near):
    weights, biases = lstm_gates()
    x, state = random(B, T, D, seed=1, scale=1.0), random(2, B, U, seed=2, scale=1.0)
    for zeros in (False, True):
        layer = LSTM(
            U,
            return_sequences=True,
            return_state=True,
            go_backwards=backwards,
            unroll=unroll,
            zero_output_for_mask=zeros,
        )
        layer.build((B, T, D))
        layer.set_weights(packed(weights, biases))
        for given in (None, state):
            initial = None if given is None else list(given.astype("float32"))
            ours = layer(x.astype("float32"), initial_state=initial, mask=MASKS[mask])
            ours = [keras.ops.convert_to_numpy(o) for o in ours]
            expected = numpy_lstm(x, weights, biases, MASKS[mask], given, backwards, zeros)
            if given is not None and MASKS[mask] is not None:
                # What stands before the first real step is Keras's affair: jax has the state there.
                read = MASKS[mask][:, ::-1] if backwards else MASKS[mask]
                begun = np.maximum.accumulate(read, axis=1)[..., None]
                ours[0], expected = ours[0] * begun, (expected[0] * begun, *expected[1:])
            assert_near(ours, list(expected))


@pytest.mark.parametrize("mask", MASKS)
def test_lstm_last_output(mask, assert_near):
    weights, biases = lstm_gates()
    x = random(B, T, D, seed=1, scale=1.0)
    layer = LSTM(U)
    layer.build((B, T, D))
    layer.set_weights(packed(weights, biases))
    outputs, _, _ = numpy_lstm(x, weights, biases, MASKS[mask])
    assert_near(layer(x.astype("float32"), mask=MASKS[mask]), outputs[:, -1])


def test_lstm_of_one_step(assert_near):
    weights, biases = lstm_gates()
    x = random(B, 1, D, seed=1)
    layer = LSTM(U)
    layer.build((B, 1, D))
    layer.set_weights(packed(weights, biases))
    expected = [numpy_step(row[0], np.zeros(U), np.zeros(U), weights, biases)[0] for row in x]
    assert_near(layer(x.astype("float32")), np.stack(expected))


def test_cell_and_step(assert_near):
    weights, biases = lstm_gates()
    x, h, c = random(B, D, seed=1), random(B, U, seed=2), random(B, U, seed=3)
    expected = [numpy_step(*row, weights, biases) for row in zip(x, h, c, strict=True)]
    expected = [np.stack(side) for side in zip(*expected, strict=True)]
    cell = LSTMCell(U)
    cell.build((B, D))
    cell.set_weights(packed(weights, biases))
    output, states = cell(x.astype("float32"), [h.astype("float32"), c.astype("float32")])
    assert_near([output, *states], [expected[0], *expected])
    kernel, recurrent, bias = packed(weights, biases)
    gates = x @ kernel + h @ recurrent + bias
    state = lstm_step(keras.ops.convert_to_tensor(gates), keras.ops.convert_to_tensor(c))
    assert isinstance(state, LSTMState)
    assert_near([state.hidden, state.cell], expected)


def numpy_attention(query, key, value, mask=None, scale=None):
    """Context `[B, T, H, V]` and weights `[B, H, T, S]` of projected inputs, pair by pair."""
    rows, steps, heads, size = query.shape
    context = np.zeros((rows, steps, heads, value.shape[-1]))
    weights = np.zeros((rows, heads, steps, key.shape[1]))
    scale = 1 / np.sqrt(size) if scale is None else scale
    for b in range(rows):
        for h in range(heads):
            for t in range(steps):
                seen = [s for s in range(key.shape[1]) if mask is None or mask[b, h, t, s]]
                if not seen:
                    continue
                scores = np.array([query[b, t, h] @ key[b, s, h] * scale for s in seen])
                scores = np.exp(scores - scores.max())
                weights[b, h, t, seen] = scores / scores.sum()
                context[b, t, h] = weights[b, h, t, seen] @ value[b, seen, h]
    return context, weights


def attention_masks():
    """Masks by name, each `bool[B, H, T, S]` with rows that may attend to nothing."""
    some = np.random.default_rng(4).random((B, H, T, S)) < 0.4
    some[1, 0, 3] = False
    some[2] = False
    return {"none": None, "some": some, "nothing": np.zeros_like(some)}


@pytest.mark.parametrize("kind", attention_masks())
@pytest.mark.parametrize("scale", [None, 0.7])
def test_scaled_dot_product_attention(kind, scale, assert_near):
    mask = attention_masks()[kind]
    query, key = random(B, T, H, K, seed=1, scale=1.0), random(B, S, H, K, seed=2, scale=1.0)
    value = random(B, S, H, V, seed=3)
    tensors = [keras.ops.convert_to_tensor(a.astype("float32")) for a in (query, key, value)]
    ours = scaled_dot_product_attention(*tensors, mask, scale=scale)
    assert_near(list(ours), list(numpy_attention(query, key, value, mask, scale)))
    if mask is not None:
        # Non-zero means true whatever the type, and a missing axis counts for all heads.
        as_numbers = scaled_dot_product_attention(*tensors, mask.astype("int32") * 3, scale=scale)
        assert_near(list(as_numbers), list(ours))
        one_head = scaled_dot_product_attention(*tensors, mask[:, :1], scale=scale)
        expected = numpy_attention(query, key, value, np.repeat(mask[:, :1], H, 1), scale)
        assert_near(list(one_head), list(expected))


def side_masks():
    """A mask for the query's steps, and one for the others'."""
    rng = np.random.default_rng(8)
    query_mask, value_mask = rng.random((B, T)) < 0.7, rng.random((B, S)) < 0.7
    query_mask[1] = False
    value_mask[2] = False
    return query_mask, value_mask


@pytest.mark.parametrize("gate", [False, True], ids=["plain", "gate"])
@pytest.mark.parametrize("masked", ["none", "query", "value", "key", "attention", "all"])
def test_multi_head_attention(masked, gate, assert_near):
    layer = MultiHeadAttention(H, K, value_dim=V, output_shape=E, use_gate=gate)
    query, value, key = (
        random(B, T, D, seed=1, scale=1.0),
        random(B, S, E, seed=2, scale=1.0),
        random(B, S, F, seed=3, scale=1.0),
    )
    layer.build(query.shape, value.shape, key.shape)
    weights = [random(*w.shape, seed=n) for n, w in enumerate(layer.weights)]
    layer.set_weights(weights)
    named = dict(zip((w.path.split("/", 1)[1] for w in layer.weights), weights, strict=True))

    query_mask, value_mask = side_masks()
    masks = {
        "query_mask": query_mask,
        "value_mask": value_mask,
        "key_mask": value_mask[::-1],
        "attention_mask": np.random.default_rng(9).random((B, T, S)) < 0.7,
    }
    if masked != "all":
        masks = {name: mask for name, mask in masks.items() if name == f"{masked}_mask"}
    allowed = np.ones((B, H, T, S), bool)
    allowed &= masks.get("query_mask", np.ones((B, T), bool))[:, None, :, None]
    allowed &= masks.get("value_mask", np.ones((B, S), bool))[:, None, None, :]
    allowed &= masks.get("key_mask", np.ones((B, S), bool))[:, None, None, :]
    allowed &= masks.get("attention_mask", np.ones((B, T, S), bool))[:, None]

    def project(x, name):
        kernel, bias = named[f"{name}/kernel"], named[f"{name}/bias"]
        return np.einsum("btd,dhk->bthk", x, kernel) + bias

    context, scores = numpy_attention(
        project(query, "query"), project(key, "key"), project(value, "value"), allowed
    )
    if gate:
        context = context * sigmoid(project(query, "gate"))
    out = named["attention_output/kernel"]
    expected = np.einsum("bthv,hve->bte", context, out) + named["attention_output/bias"]
    inputs = [a.astype("float32") for a in (query, value, key)]
    ours = layer(*inputs, **masks, return_attention_scores=True)
    assert_near(list(ours), [expected, scores])
    assert_near(layer(*inputs, **masks), expected)


@pytest.mark.parametrize(("causal", "window"), [(True, None), (False, 3), (True, 3)])
def test_causal_and_sliding_window(causal, window, assert_near):
    layer = MultiHeadAttention(H, K, sliding_window=window)
    x = random(B, T, D, scale=1.0).astype("float32")
    distance = np.arange(T)[:, None] - np.arange(T)[None, :]
    allowed = np.ones((T, T), bool)
    if causal:
        allowed &= distance >= 0
    if window:
        allowed &= abs(distance) < window
    _, scores = layer(x, x, use_causal_mask=causal, return_attention_scores=True)
    scores = keras.ops.convert_to_numpy(scores)
    assert (scores[..., ~allowed] == 0).all()
    assert (scores[..., allowed] > 0).all()
    assert_near(scores.sum(-1), np.ones((B, H, T)))


def numpy_norm(x, scale, offset, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + offset


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_transformer_block(norm, gated, assert_near):
    block = TransformerBlock(H, K, F, norm=norm, activation="tanh", gated=gated)
    block.build((B, T, D))
    block.set_weights([random(*w.shape, seed=n) for n, w in enumerate(block.weights)])
    named = {
        w.path.split("/", 1)[1]: keras.ops.convert_to_numpy(w).astype("float64")
        for w in block.weights
    }
    x, mask = random(B, T, D, seed=1, scale=1.0), MASKS["holes"]

    def normalise(y, name):
        gamma, beta = named[f"{name}/gamma"], named[f"{name}/beta"]
        return numpy_norm(y, gamma, beta, block.epsilon)

    def attention(y):
        q, k, v = (
            np.einsum("btd,dhk->bthk", y, named[f"attention/{name}/kernel"])
            + named[f"attention/{name}/bias"]
            for name in ("query", "key", "value")
        )
        both = mask[:, None, :, None] & mask[:, None, None, :]
        context, _ = numpy_attention(q, k, v, np.repeat(both, H, 1))
        kernel = named["attention/attention_output/kernel"]
        return (
            np.einsum("bthv,hvd->btd", context, kernel) + named["attention/attention_output/bias"]
        )

    def network(y):
        hidden = np.tanh(y @ named["inner/kernel"] + named["inner/bias"])
        if gated:
            hidden *= y @ named["gate/kernel"] + named["gate/bias"]
        return hidden @ named["outer/kernel"] + named["outer/bias"]

    if norm == "post":
        y = normalise(x + attention(x), "attention_norm")
        expected = normalise(y + network(y), "network_norm")
    else:
        y = x + attention(normalise(x, "attention_norm"))
        expected = y + network(normalise(y, "network_norm"))
    assert_near(block(x.astype("float32"), mask=mask), expected)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("size", [D, 2 * U])
def test_sinusoidal_positions(size, scale, assert_near):
    x = random(B, T, size)
    expected = scale * x
    for t in range(T):
        for n in range(size):
            angle = t / 10_000 ** (2 * (n // 2) / size)
            expected[:, t, n] += np.cos(angle) if n % 2 else np.sin(angle)
    assert_near(SinusoidalPositions(input_scale=scale)(x.astype("float32")), expected)


def test_sinusoidal_positions_far_out(assert_near):
    """Step 20,000 is as exact as float32 can say, and no two steps are one in half precision."""
    steps = 20_000
    ours = keras.ops.convert_to_numpy(SinusoidalPositions()(np.zeros((1, steps, 2), "float32")))
    angle = np.arange(steps)
    assert_near(ours[0], np.stack([np.sin(angle), np.cos(angle)], -1), 2e-3)
    half = SinusoidalPositions(dtype="bfloat16")(np.zeros((1, 3000, 2), "float32"))
    half = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    assert_near(half[0], np.stack([np.sin(angle), np.cos(angle)], -1)[:3000], 1e-2)


def test_learned_positions(assert_near):
    layer = LearnedPositions(F)
    layer.build((B, T, D))
    table, x = random(F, D, seed=1), random(B, T, D)
    layer.set_weights([table])
    assert_near(layer(x.astype("float32")), x + table[:T])


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("mode", ["last", "mean", "max", "attention"])
def test_masked_pooling(mode, kind, assert_near):
    layer, x = MaskedPooling(mode), random(B, T, D, seed=1, scale=1.0)
    layer.build((B, T, D))
    layer.set_weights([random(*w.shape, seed=n) for n, w in enumerate(layer.weights)])
    mask = np.ones((B, T), bool) if MASKS[kind] is None else MASKS[kind]
    expected = np.zeros((B, D))
    for b in range(B):
        steps = x[b, mask[b]]
        if not len(steps):
            continue
        if mode == "last":
            expected[b] = steps[-1]
        elif mode == "mean":
            expected[b] = steps.mean(0)
        elif mode == "max":
            expected[b] = steps.max(0)
        else:
            kernel, bias, query = (w.astype("float64") for w in layer.get_weights())
            scores = (np.tanh(steps @ kernel + bias) @ query)[:, 0]
            weights = np.exp(scores - scores.max())
            expected[b] = weights / weights.sum() @ steps
    assert_near(layer(x.astype("float32"), mask=MASKS[kind]), expected)
