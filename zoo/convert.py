"""Weights from elsewhere: PyTorch's LSTM and attention, LSTMs kept gate by gate, and BERTs.

What comes from PyTorch may be a module or its state dict, of tensors or of NumPy arrays. What goes
there is a state dict for `load_state_dict`. PyTorch itself is needed for its tensors alone.
"""

import importlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.bert import Bert, from_bert
from zoo.layers.arguments import check_positive
from zoo.layers.gate_weights import GateWeights, gates_from_lstm, lstm_from_gates

__all__ = [
    "Bert",
    "GateWeights",
    "attention_from_torch",
    "attention_to_torch",
    "from_bert",
    "gates_from_lstm",
    "lstm_from_gates",
    "lstm_from_torch",
    "lstm_to_torch",
]

# PyTorch's names of weights, without layer and direction.
LSTM_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
LSTM_KEY = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)_l(\d+)(_reverse)?")
ENDS = ("", "_reverse")
SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
PACKED = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


def lstm_from_torch(source: Any, prefix: str = "") -> list[list[list[np.ndarray]]]:
    """The weights of PyTorch's `nn.LSTM`, for layers of ours or of Keras.

    PyTorch has the same order of gates, i, f, g, o; its matrices are transposed, and its two
    biases, which are added anyway, become one.

    Args:
        source: an `nn.LSTM`, or a state dict of tensors or NumPy arrays.
        prefix: what stands before the LSTM's names in the state dict of a larger model, with its
            dot: `"encoder.lstm."`. Names without it are then left alone.

    Returns:
        A list of layers; each is a list of its directions, forward first; and each of these is the
        list that `set_weights` takes: `kernel [D, 4U]`, `recurrent_kernel [U, 4U]`, `bias [4U]`,
        the last for a layer with `use_bias` alone. With PyTorch's `proj_size` P, recurrent kernels
        are `[P, 4U]`, and `projection_kernel [U, P]` comes last, as it does in our LSTM with
        `projection_units`.

    Raises:
        ValueError: if there is no LSTM, a weight is missing, unknown or of a wrong shape.

    Example:
        A whole `nn.LSTM(5, 3, num_layers=2, bidirectional=True)`. Here, a state dict stands in for
        the module, and the first three lines make it:

        >>> def weights(size):
        ...     return [np.ones((size, 12)), np.ones((3, 12)), np.zeros(12)]
        >>> module = lstm_to_torch([[weights(5)] * 2, [weights(6)] * 2], tensors=False)
        >>> import keras
        >>> from zoo.layers import LSTM
        >>> layers = [keras.layers.Bidirectional(LSTM(3, return_sequences=True)) for _ in range(2)]
        >>> model = keras.Sequential([keras.Input((None, 5)), *layers])
        >>> for layer, directions in zip(layers, lstm_from_torch(module), strict=True):
        ...     layer.set_weights([array for weights in directions for array in weights])
        >>> model.output_shape
        (None, None, 6)
    """
    state = _state(source, prefix)
    found = {}
    for name, array in state.items():
        match = LSTM_KEY.fullmatch(name)
        if match is None:
            raise ValueError(f"argument `source` has the weight {name!r}, which no nn.LSTM has")
        kind, number, end = match.groups(default="")
        found[kind, int(number), end] = array
    if not found:
        raise ValueError(f"argument `source` has no weights of an nn.LSTM under prefix={prefix!r}")
    layers = range(max(place for _, place, _ in found) + 1)
    ends = ENDS[: 1 + any(end for _, _, end in found)]
    kinds = {kind for kind, _, _ in found} | {"weight_ih", "weight_hh"}
    if kinds & {"bias_ih", "bias_hh"}:
        kinds |= {"bias_ih", "bias_hh"}
    for kind, place, end in itertools.product(LSTM_NAMES, layers, ends):
        if kind in kinds and (kind, place, end) not in found:
            raise ValueError(f"argument `source` lacks the weight '{kind}_l{place}{end}'")
    return [
        [_direction_from_torch({k: found[k, n, end] for k in kinds}, f"_l{n}{end}") for end in ends]
        for n in layers
    ]


def _direction_from_torch(arrays: Mapping[str, np.ndarray], suffix: str) -> list[np.ndarray]:
    """One direction of one layer, its shapes checked: another kind of RNN has others."""
    inputs = arrays["weight_ih"]
    units = inputs.shape[0] // 4
    outputs = arrays["weight_hr"].shape[0] if "weight_hr" in arrays else units
    expected = {
        "weight_ih": (4 * units, inputs.shape[-1]),
        "weight_hh": (4 * units, outputs),
        "bias_ih": (4 * units,),
        "bias_hh": (4 * units,),
        "weight_hr": (outputs, units),
    }
    for kind, array in arrays.items():
        if array.shape != expected[kind]:
            raise ValueError(
                f"argument `source` has '{kind}{suffix}' of shape {array.shape}, where an nn.LSTM "
                f"has {expected[kind]}"
            )
    weights = [_transposed(inputs), _transposed(arrays["weight_hh"])]
    if "bias_ih" in arrays:
        weights.append(arrays["bias_ih"] + arrays["bias_hh"])  # float[4U]
    if "weight_hr" in arrays:
        weights.append(_transposed(arrays["weight_hr"]))  # float[U, P]
    return weights


def lstm_to_torch(
    layers: Sequence[Sequence[Any]], prefix: str = "", tensors: bool = True
) -> dict[str, Any]:
    """The state dict of an `nn.LSTM` with the weights of layers of ours or of Keras.

    Our one bias becomes the first of PyTorch's two, and the second is zeros.

    Args:
        layers: the layers from the input on, each what its `get_weights` returns, that of a
            `Bidirectional` included; or, as `lstm_from_torch` returns them, each a list of its
            directions.
        prefix: what to put before the names, with its dot.
        tensors: whether to make tensors, for which PyTorch must be installed, or NumPy arrays.

    Returns:
        The state dict.

    Raises:
        ValueError: if the arrays are not those of LSTM layers, or the layers do not fit on one
            another, or not all are alike in directions, bias and sizes, as PyTorch needs.

    Example:
        >>> layer = [np.ones((5, 12)), np.ones((3, 12)), np.ones(12)]
        >>> state = lstm_to_torch([layer], tensors=False)
        >>> {name: array.shape for name, array in state.items()}
        {'weight_ih_l0': (12, 5), 'weight_hh_l0': (12, 3), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    if not layers:
        raise ValueError(f"argument `layers` must hold at least one layer, not {layers!r}")
    state: dict[str, np.ndarray] = {}
    forms, below = set(), None
    for number, layer in enumerate(layers):
        directions = _directions(layer)
        for end, direction in zip(ENDS, directions, strict=False):
            place = f"_l{number}{end}"
            arrays = _direction_to_torch(direction, place)
            state.update({f"{prefix}{kind}{place}": array for kind, array in arrays.items()})
            forms.add((len(directions), tuple(arrays), arrays["weight_hh"].shape))
            size = arrays["weight_ih"].shape[1]
            if below not in (None, size):
                raise ValueError(
                    f"argument `layers` has a layer {number} for inputs of {size} features, but "
                    f"that below puts out {below}"
                )
        below = len(directions) * arrays["weight_hh"].shape[1]
    if len(forms) > 1:
        raise ValueError(
            "argument `layers` has layers that differ in directions, bias or sizes, and an nn.LSTM "
            "has all alike"
        )
    return _as_tensors(state) if tensors else state


def _directions(layer: Sequence[Any]) -> list[list[np.ndarray]]:
    """A layer's directions, told apart where they stand in one list."""
    if layer and isinstance(layer[0], list | tuple):
        directions = [[_to_numpy(array) for array in direction] for direction in layer]
    else:
        arrays = [_to_numpy(array) for array in layer]
        half = len(arrays) // 2
        # Four may be one direction with a bias, a vector, or two without.
        two = len(arrays) in (6, 8) or (len(arrays) == 4 and arrays[2].ndim == 2)
        directions = [arrays[:half], arrays[half:]] if two else [arrays]
    if len(directions) > 2:
        raise ValueError(f"argument `layers` has a layer of {len(directions)} directions")
    return directions


def _direction_to_torch(weights: Sequence[np.ndarray], place: str) -> dict[str, np.ndarray]:
    """One direction of one layer under PyTorch's names."""
    shapes = [array.shape for array in weights]
    bias = next((array for array in weights if array.ndim == 1), None)
    matrices = [array for array in weights if array.ndim == 2]
    kinds = [array.ndim for array in weights]
    if kinds not in ([2, 2], [2, 2, 1], [2, 2, 2], [2, 2, 1, 2]):
        raise ValueError(f"argument `layers` has at '{place}' arrays of shapes {shapes}")
    kernel, recurrent = matrices[:2]
    units = kernel.shape[1] // 4
    outputs = matrices[2].shape[1] if len(matrices) == 3 else units
    expected: list[tuple[int, ...]] = [(len(kernel), 4 * units), (outputs, 4 * units)]
    expected += [(4 * units,)] if bias is not None else []
    expected += [(units, outputs)] if len(matrices) == 3 else []
    if shapes != expected:
        raise ValueError(
            f"argument `layers` has at '{place}' arrays of shapes {shapes}, not those of an LSTM's "
            f"weights {expected}"
        )
    arrays = {"weight_ih": _transposed(kernel), "weight_hh": _transposed(recurrent)}
    if bias is not None:
        arrays |= {"bias_ih": bias.copy(), "bias_hh": np.zeros_like(bias)}
    if len(matrices) == 3:
        arrays["weight_hr"] = _transposed(matrices[2])  # float[P, U]
    return arrays


def attention_from_torch(
    source: Any, num_heads: int | None = None, prefix: str = ""
) -> list[np.ndarray]:
    """The weights of PyTorch's `nn.MultiheadAttention`, for a layer of ours or of Keras.

    The layer is `MultiHeadAttention(num_heads, embed_dim // num_heads)`, with `use_bias=False` for
    PyTorch's `bias=False`. Its call takes query, value and key in this order, PyTorch's query, key
    and value; and its masks are true where attending is allowed, PyTorch's where it is not:
    `attention_mask=~attn_mask`, `value_mask=~key_padding_mask`.

    Args:
        source: an `nn.MultiheadAttention`, or a state dict of tensors or NumPy arrays.
        num_heads: H; a module says it itself, a state dict does not.
        prefix: what stands before the names in the state dict of a larger model, with its dot.
            Names without it are then left alone.

    Returns:
        The list that `set_weights` takes: `query/kernel [D, H, K]`, `query/bias [H, K]`, `key/…`
        and `value/…` alike, `attention_output/kernel [H, K, D]`, `attention_output/bias [D]`; the
        kernels alone if there is no bias.

    Raises:
        ValueError: if a weight is missing, unknown or of a wrong shape, `num_heads` is missing or
            does not fit, or the module has `add_bias_kv` or `add_zero_attn`, which no layer of
            Keras has. A state dict does not tell of `add_zero_attn`.

    Example:
        >>> state = {
        ...     "in_proj_weight": np.ones((18, 6)), "in_proj_bias": np.zeros(18),
        ...     "out_proj.weight": np.ones((6, 6)), "out_proj.bias": np.zeros(6),
        ... }
        >>> [array.shape for array in attention_from_torch(state, num_heads=2)]
        [(6, 2, 3), (2, 3), (6, 2, 3), (2, 3), (6, 2, 3), (2, 3), (2, 3, 6), (6,)]
    """
    if getattr(source, "add_zero_attn", False):
        raise ValueError("argument `source` has add_zero_attn=True, which our attention lacks")
    state = _state(source, prefix)
    if {"bias_k", "bias_v"} & set(state):
        raise ValueError("argument `source` has add_bias_kv=True, which our attention lacks")
    num_heads = getattr(source, "num_heads", None) if num_heads is None else num_heads
    if num_heads is None:
        raise ValueError("argument `num_heads` must be given: a state dict does not say it")
    check_positive("num_heads", num_heads)
    for name in state:
        if name not in (*SEPARATE, *PACKED):
            raise ValueError(
                f"argument `source` has the weight {name!r}, which no nn.MultiheadAttention has"
            )
    width = _take(state, "out_proj.weight").shape[0]
    if width % num_heads:
        raise ValueError(
            f"argument `num_heads`={num_heads} does not divide the {width} features of the module"
        )
    size = width // num_heads
    matrices = _attention_matrices(state, width)
    out = _take(state, "out_proj.weight", (width, width))
    kernels = [_transposed(m).reshape(-1, num_heads, size) for m in matrices]  # float[D, H, K]
    kernels.append(_transposed(out).reshape(num_heads, size, width))  # float[H, K, D]
    if "in_proj_bias" not in state and "out_proj.bias" not in state:
        return kernels
    packed = _take(state, "in_proj_bias", (3 * width,))
    biases = [b.reshape(num_heads, size).copy() for b in np.split(packed, 3)]  # float[H, K]
    biases.append(_take(state, "out_proj.bias", (width,)).copy())  # float[D]
    return [array for pair in zip(kernels, biases, strict=True) for array in pair]


def _attention_matrices(state: Mapping[str, np.ndarray], width: int) -> list[np.ndarray]:
    """The matrices of query, key and value, each `float[D', D]`, packed or not."""
    if "in_proj_weight" in state:
        return np.split(_take(state, "in_proj_weight", (3 * width, width)), 3)
    return [_take(state, n, (width, width if n[0] == "q" else None)) for n in SEPARATE]


def attention_to_torch(
    weights: Sequence[Any], prefix: str = "", tensors: bool = True
) -> dict[str, Any]:
    """The state dict of an `nn.MultiheadAttention` with the weights of our layer or Keras's.

    It loads into `nn.MultiheadAttention(embed_dim, num_heads)`, with the `kdim` and `vdim` of the
    key's and value's features where these are not `embed_dim`, and with `bias=False` if there are
    no biases.

    Args:
        weights: what the layer's `get_weights` returns.
        prefix: what to put before the names, with its dot.
        tensors: whether to make tensors, for which PyTorch must be installed, or NumPy arrays.

    Returns:
        The state dict: `in_proj_weight` if query, key and value have the same number of features,
        else `q_proj_weight`, `k_proj_weight` and `v_proj_weight`.

    Raises:
        ValueError: if the layer has what PyTorch's lacks: a gate, shared key and value heads,
            other output or head sizes than `embed_dim` and `embed_dim // num_heads`.

    Example:
        >>> kernels = [np.ones((6, 2, 3))] * 3 + [np.ones((2, 3, 6))]
        >>> list(attention_to_torch(kernels, tensors=False))
        ['in_proj_weight', 'out_proj.weight']
    """
    arrays = [_to_numpy(array) for array in weights]
    shapes = [array.shape for array in arrays]
    if len(arrays) not in (4, 8):
        raise ValueError(
            "argument `weights` must be those of four projections, with biases or without, not "
            f"arrays of shapes {shapes}: nn.MultiheadAttention has neither a gate nor norms"
        )
    kernels, biases = (arrays[::2], arrays[1::2]) if len(arrays) == 8 else (arrays, [])
    if any(kernel.ndim != 3 for kernel in kernels):
        raise ValueError(f"argument `weights` has kernels of shapes {[k.shape for k in kernels]}")
    width, heads, size = kernels[0].shape
    expected: list[tuple[int, ...]] = [(k.shape[0], heads, size) for k in kernels[:3]]
    expected.append((heads, size, width))
    if biases:
        sides = [(heads, size)] * 3 + [(width,)]
        expected = [shape for pair in zip(expected, sides, strict=True) for shape in pair]
    if shapes != expected or width != heads * size:
        raise ValueError(
            f"argument `weights` has arrays of shapes {shapes}; nn.MultiheadAttention needs "
            f"{expected}, and {width} features in {heads} heads of {width} / {heads}, not {size}"
        )
    matrices = [_transposed(k.reshape(-1, width)) for k in kernels[:3]]  # each float[D, D']
    if all(m.shape == (width, width) for m in matrices):
        state = {"in_proj_weight": np.concatenate(matrices)}  # float[3D, D]
    else:
        state = dict(zip(SEPARATE, matrices, strict=True))
    state["out_proj.weight"] = _transposed(kernels[3].reshape(width, width))
    if biases:
        state["in_proj_bias"] = np.concatenate([b.reshape(-1) for b in biases[:3]])  # float[3D]
        state["out_proj.bias"] = biases[3].copy()
    state = {prefix + name: array for name, array in state.items()}
    return _as_tensors(state) if tensors else state


def _state(source: Any, prefix: str) -> dict[str, np.ndarray]:
    """A module's or state dict's weights as arrays, the prefix taken off."""
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise ValueError(
            f"argument `source` must be a module of PyTorch or a state dict, not {source!r}"
        )
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): _to_numpy(state[name]) for name in names}


def _take(
    state: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...] = (None, None)
) -> np.ndarray:
    """A weight that must be there, of this shape; `None` is any size."""
    if name not in state:
        raise ValueError(f"argument `source` lacks the weight {name!r}")
    found = state[name].shape
    pairs = zip(shape, found, strict=False)
    if len(found) != len(shape) or any(n not in (None, m) for n, m in pairs):
        raise ValueError(f"argument `source` has {name!r} of shape {found}, not {shape}")
    return state[name]


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy()
    return np.asarray(value)


def _transposed(matrix: np.ndarray) -> np.ndarray:
    # Always a copy: what is returned must not change with the module.
    return np.array(matrix.T, order="C")


def _as_tensors(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    return {name: torch.tensor(array) for name, array in state.items()}
