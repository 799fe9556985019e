"""Every layer as the harness asks for it: a line each, and what makes inputs of it."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from zoo.layers import (
    LSTM,
    HashedNgrams,
    LearnedPositions,
    LengthMask,
    LogCountRatios,
    LSTMCell,
    MaskedPooling,
    MinLSTM,
    MinLSTMCell,
    MultiHeadAttention,
    SinusoidalPositions,
    Standardization,
    TransformerBlock,
    WordDropout,
)

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, S, D, E, U, H, K, V = 5, 11, 13, 7, 17, 3, 2, 19, 23
# How many rows or steps there are, those of n-grams of three sizes included.
UNKNOWN = (B, T, S, 3 * T)


BACKEND = keras.backend.backend()


@dataclass(frozen=True)
class Case:
    """A layer in one configuration.

    Args:
        make: returns the layer.
        takes: `"sequence"`, `"pair"` (query and value), `"step"`, `"ids"` or `"track"`.
        keeps_steps: whether an output step belongs to each input step.
        compiles: whether XLA can compile it.
        still: names of weights whose gradient is zero by nature.
        masks: whether a mask changes what the layer computes.
        states: how many states a step takes.
    """

    make: Callable[..., keras.layers.Layer]
    takes: str = "sequence"
    keeps_steps: bool = True
    still: tuple[str, ...] = ()
    masks: bool = False
    states: int = 2


def _lstm(keeps_steps=False, **arguments):
    return Case(
        lambda **kw: LSTM(U, return_sequences=keeps_steps, **arguments, **kw),
        keeps_steps=keeps_steps,
        masks=True,
    )


def _min_lstm(**arguments):
    keeps_steps = arguments.get("return_sequences", False)
    return Case(lambda **kw: MinLSTM(U, **arguments, **kw), keeps_steps=keeps_steps, masks=True)


def _attention(key_dim=K, **arguments):
    # A key's bias adds as much to all scores of a query, and the softmax takes no notice.
    return Case(
        lambda **kw: MultiHeadAttention(H, key_dim, **arguments, **kw),
        takes="pair",
        still=("key/bias",),
        masks=True,
    )


def _pooling(mode):
    return Case(lambda **kw: MaskedPooling(mode, **kw), keeps_steps=False, masks=True)


def _block(**arguments):
    return Case(
        lambda **kw: TransformerBlock(H, K, E, **arguments, **kw),
        still=("key/bias",),
        masks=True,
    )


CASES = {
    "lstm": _lstm(),
    "lstm-sequences": _lstm(keeps_steps=True),
    "lstm-state": _lstm(return_state=True),
    "lstm-no-bias": _lstm(use_bias=False, recurrent_activation="hard_sigmoid"),
    "lstm-backwards": _lstm(go_backwards=True, activation="softsign"),
    "lstm-zeros": _lstm(keeps_steps=True, zero_output_for_mask=True),
    "lstm-dropout": _lstm(dropout=0.3, recurrent_dropout=0.2, seed=1),
    "lstm-options": _lstm(keeps_steps=True, layer_norm=True, projection_units=2, peephole=True),
    "lstm-dropped-weights": _lstm(recurrent_weight_dropout=0.3, seed=1),
    "lstm-regularized": _lstm(
        kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="max_norm"
    ),
    "cell": Case(lambda **kw: LSTMCell(U, **kw), takes="step", keeps_steps=False),
    "cell-dropout": Case(
        lambda **kw: LSTMCell(U, dropout=0.3, seed=1, implementation=1, **kw),
        takes="step",
        keeps_steps=False,
    ),
    "min-lstm": _min_lstm(),
    "min-lstm-sequences": _min_lstm(return_sequences=True, mode="parallel"),
    "min-lstm-state": _min_lstm(return_state=True, mode="steps", use_bias=False),
    "min-lstm-backwards": _min_lstm(
        return_sequences=True, go_backwards=True, zero_output_for_mask=True
    ),
    "min-lstm-regularized": _min_lstm(
        dropout=0.3, seed=1, kernel_regularizer="l2", activity_regularizer="l1"
    ),
    "min-lstm-cell": Case(
        lambda **kw: MinLSTMCell(U, **kw), takes="step", keeps_steps=False, states=1
    ),
    "attention": _attention(),
    "attention-sizes": _attention(value_dim=V, output_shape=E, use_bias=False),
    "attention-gate": _attention(use_gate=True, dropout=0.1, seed=1),
    "attention-window": _attention(sliding_window=5),
    "attention-grouped": _attention(num_kv_heads=1, logits_soft_cap=2.0, value_dim=V),
    "attention-rotary": _attention(key_dim=2 * K, position="rotary", qk_norm=True),
    "attention-alibi": _attention(position="alibi", num_kv_heads=1),
    "attention-relative": _attention(
        position="relative", relative_num_buckets=8, relative_max_distance=5, dropout=0.1, seed=1
    ),
    "attention-regularized": _attention(
        kernel_regularizer="l2", activity_regularizer="l1", bias_constraint="non_neg"
    ),
    "post-norm": _block(),
    "pre-norm": _block(norm="pre", activation="gelu", dropout=0.1, seed=1),
    "gated-block": _block(norm="pre", activation="silu", gated=True, position="alibi"),
    "relative-block": _block(position="relative", dropout=0.1, attention_dropout=0.0, seed=1),
    "sinusoidal": Case(lambda **kw: SinusoidalPositions(**kw)),
    "sinusoidal-scaled": Case(lambda **kw: SinusoidalPositions(input_scale=1.5, **kw)),
    "sinusoidal-short": Case(lambda **kw: SinusoidalPositions(max_wavelength=100.0, **kw)),
    "learned": Case(lambda **kw: LearnedPositions(29, **kw)),
    "pool-last": _pooling("last"),
    "pool-mean": _pooling("mean"),
    "pool-max": _pooling("max"),
    "pool-attention": _pooling("attention"),
    "standardization": Case(lambda **kw: Standardization(**kw)),
    "word-dropout": Case(lambda **kw: WordDropout(0.3, seed=1, **kw), takes="ids"),
    "ngrams": Case(lambda **kw: HashedNgrams(29, 3, 31, **kw), takes="ids", keeps_steps=False),
    "log-count-ratios": Case(
        lambda **kw: LogCountRatios(29, D, dropout=0.3, seed=1, **kw),
        takes="ids",
        keeps_steps=False,
    ),
    "length-mask": Case(lambda **kw: LengthMask(**kw), takes="track"),
}


MASKED = sorted(name for name, case in CASES.items() if case.masks)


# Keras asks no cell for its output's shape.
TELLING = sorted(name for name, case in CASES.items() if case.takes != "step")
WEIGHTED = sorted(
    name
    for name, case in CASES.items()
    if not name.startswith(("sinus", "standard", "word", "length", "pool", "ngrams"))
)


def make_arrays(case, rows=B, steps=T, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, steps, D)).astype("float32")
    if case.takes == "sequence":
        return [x]
    if case.takes == "pair":
        return [x, rng.normal(size=(rows, steps + 2, E)).astype("float32")]
    if case.takes == "step":
        states = rng.normal(size=(case.states, rows, U)).astype("float32")
        return [rng.normal(size=(rows, D)).astype("float32"), *states]
    if case.takes == "ids":
        return [rng.integers(0, 29, (rows, steps)).astype("int32")]
    return [x, rng.integers(0, steps + 1, rows).astype("int32")]


def call(case, layer, arrays, masks=(), **kwargs):
    """Calls the layer with arrays, or with symbolic inputs, and masks for each sequence."""
    if case.takes == "step":
        return layer(arrays[0], list(arrays[1:]), **kwargs)
    if case.takes == "track":
        return layer(list(arrays), **kwargs)
    if masks:
        names = ("query_mask", "value_mask") if case.takes == "pair" else ("mask",)
        kwargs.update(zip(names, masks, strict=True))
    return layer(*arrays, **kwargs)


def symbolic(case, fixed=False):
    """Inputs of unknown batch and time, or of known ones."""
    inputs = []
    for array in make_arrays(case):
        shape = (
            array.shape if fixed else (None, *(None if n in (T, S) else n for n in array.shape[1:]))
        )
        inputs.append(keras.Input(batch_shape=shape, dtype=str(array.dtype)))
    return inputs


def make_model(case, layer, fixed=False):
    inputs = symbolic(case, fixed)
    return keras.Model(inputs, call(case, layer, inputs))


def make_masks(case, steps=T):
    """Right-padded, left-padded, with holes, of one step, and whole."""
    masks = []
    for array in make_arrays(case, steps=steps):
        mask = np.random.default_rng(4).random(array.shape[:2]) < 0.6
        mask[0] = np.arange(array.shape[1]) < 4
        mask[1] = np.arange(array.shape[1]) > 4
        mask[2] = np.arange(array.shape[1]) == 3
        mask[3] = True
        masks.append(mask)
    return masks


def flat(outputs):
    return [keras.ops.convert_to_numpy(o) for o in keras.tree.flatten(outputs)]
