"""An LSTM's packed weights as one matrix for each gate, and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo.layers.arguments import check_choice

PACKED = ("i", "f", "c", "o")
ORDERS = ("xh", "hx")


class GateWeights(NamedTuple):
    """An LSTM's weights gate by gate, each field a dict with the keys `f`, `i`, `o` and `c`.

    Args:
        W: `float[D + U, U]`, what `[x, h]` is multiplied by, or `[h, x]`.
        U: `float[U, U]`, or `float[P, U]` with a projection, what h is multiplied by besides;
            `None` where there is no such matrix.
        b: `float[U]`, the bias; `None` where there is none.
    """

    W: dict[str, Any]
    U: dict[str, Any] | None
    b: dict[str, Any] | None


def lstm_from_gates(
    W: Mapping[str, Any],
    U: Mapping[str, Any] | None = None,
    b: Mapping[str, Any] | None = None,
    order: str = "xh",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packs weights kept gate by gate as Keras's LSTM and ours keep them.

        gate = activation([x, h] W + h U + b)        recurrent weights: W[D:] + U

    Two conventions are in use: one matrix for the concatenation of input and hidden state, and a
    second one that acts on the hidden state alone. That is the same cell, and the two are added.

    Args:
        W: by gate `f` (forget), `i` (input), `o` (output) and `c` (candidate), `float[D + U, U]`.
        U: by gate, `float[U, U]`; nothing is added if left out. Of an LSTM with a projection to P
            sizes, `float[P, U]`, and W is `float[D + P, U]`: there it must be given, if need be
            as zeros, since W does not say where its inputs end.
        b: by gate, `float[U]`; zeros if left out.
        order: `"xh"` if W acts on `[x, h]`, `"hx"` if it acts on `[h, x]`.

    Returns:
        `kernel float[D, 4U]`, `recurrent_kernel float[U, 4U]` and `bias float[4U]`, gates in the
        order i, f, c, o.

    Raises:
        ValueError: if a gate is missing or unknown, shapes do not fit together, or `order` is
            neither of the two.

    Example:
        >>> W = {gate: np.ones((5 + 3, 3), "float32") for gate in "fioc"}
        >>> [array.shape for array in lstm_from_gates(W)]
        [(5, 12), (3, 12), (12,)]
    """
    check_choice("order", order, ORDERS)
    W = _by_gate("W", W, 2)
    rows, units = W["f"].shape
    _check_shape("W", W, (rows, units))
    recurrent_rows = units
    if U is not None:
        U = _by_gate("U", U, 2)
        recurrent_rows = U["f"].shape[0]
        _check_shape("U", U, (recurrent_rows, units))
    if rows <= recurrent_rows:
        raise ValueError(
            f'argument `W["f"]` must have more than the {recurrent_rows} rows that act on the '
            f"hidden state, not the shape {(rows, units)}"
        )
    packed = _pack(W)  # float[D + U, 4U]
    if order == "xh":
        kernel, recurrent = packed[:-recurrent_rows], packed[-recurrent_rows:]
    else:
        recurrent, kernel = packed[:recurrent_rows], packed[recurrent_rows:]
    if U is not None:
        recurrent = recurrent + _pack(U)  # float[U, 4U]
    if b is None:
        return kernel.copy(), recurrent.copy(), np.zeros(4 * units, packed.dtype)
    b = _by_gate("b", b, 1)
    _check_shape("b", b, (units,))
    return kernel.copy(), recurrent.copy(), _pack(b)


def gates_from_lstm(
    kernel: Any, recurrent_kernel: Any, bias: Any = None, order: str = "xh"
) -> GateWeights:
    """Unpacks an LSTM's weights gate by gate; `lstm_from_gates(*result)` packs them again.

    Args:
        kernel: `float[D, 4U]`, gates in the order i, f, c, o.
        recurrent_kernel: `float[U, 4U]`, or `float[P, 4U]` of an LSTM with a projection.
        bias: `float[4U]`, or `None`.
        order: `"xh"` for matrices that act on `[x, h]`, `"hx"` for `[h, x]`.

    Returns:
        The weights; `U` is `None` but for an LSTM with a projection, where zeros `float[P, U]`
        say how many rows of W act on the hidden state.

    Raises:
        ValueError: if shapes do not fit together, or `order` is neither of the two.

    Example:
        >>> gates = gates_from_lstm(np.ones((5, 12)), np.zeros((3, 12)), np.zeros(12))
        >>> gates.W["f"].shape, gates.U, gates.b["o"].shape
        ((8, 3), None, (3,))
    """
    check_choice("order", order, ORDERS)
    kernel, recurrent = np.asarray(kernel), np.asarray(recurrent_kernel)
    if kernel.ndim != 2 or kernel.shape[1] % 4 or not kernel.size:
        raise ValueError(f"argument `kernel` must be of shape [D, 4U], not {kernel.shape}")
    width = kernel.shape[1]
    if recurrent.ndim != 2 or recurrent.shape[1] != width or not recurrent.size:
        raise ValueError(
            f"argument `recurrent_kernel` must be of shape [U, {width}], not {recurrent.shape}"
        )
    parts = (kernel, recurrent) if order == "xh" else (recurrent, kernel)
    b = None
    if bias is not None:
        bias = np.asarray(bias)
        if bias.shape != (width,):
            raise ValueError(f"argument `bias` must be of shape ({width},), not {bias.shape}")
        b = _unpack(bias)
    U = None
    if recurrent.shape[0] != width // 4:
        U = _unpack(np.zeros_like(recurrent))
    return GateWeights(_unpack(np.concatenate(parts)), U, b)


def _by_gate(name: str, gates: Mapping[str, Any], rank: int) -> dict[str, np.ndarray]:
    """The four gates as arrays, their names and their number of axes checked."""
    if not isinstance(gates, Mapping) or set(gates) != set(PACKED):
        given = sorted(map(str, gates)) if isinstance(gates, Mapping) else gates
        raise ValueError(
            f"argument `{name}` must be a dict of the gates 'f', 'i', 'o' and 'c', not {given!r}"
        )
    arrays = {gate: np.asarray(gates[gate]) for gate in PACKED}
    for gate, array in arrays.items():
        if array.ndim != rank:
            raise ValueError(
                f'argument `{name}["{gate}"]` must have {rank} axes, not the shape {array.shape}'
            )
    return arrays


def _check_shape(name: str, gates: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    for gate, array in gates.items():
        if array.shape != shape:
            raise ValueError(
                f'argument `{name}["{gate}"]` must be of shape {shape}, not {array.shape}'
            )


def _pack(gates: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([gates[gate] for gate in PACKED], axis=-1)  # float[…, 4U]


def _unpack(packed: np.ndarray) -> dict[str, np.ndarray]:
    parts = np.split(packed, 4, axis=-1)  # each float[…, U]
    return {gate: part.copy() for gate, part in zip(PACKED, parts, strict=True)}
