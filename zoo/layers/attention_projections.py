"""The projections of attention: one matrix for all heads, over the last axes."""

import string
from collections.abc import Sequence
from typing import Any

import keras

from zoo.layers.arguments import copied


def make_projection(
    name: str,
    shape: Sequence[int | None],
    sizes: Sequence[int | None],
    *,
    bound: int = 1,
    use_bias: bool = True,
    kernel_initializer: Any = "glorot_uniform",
    bias_initializer: Any = "zeros",
    **options: Any,
) -> keras.layers.EinsumDense:
    """A built projection of the last `bound` axes to `sizes`.

        output[..., i, j] = sum over d of inputs[..., d] kernel[d, i, j] + bias[i, j]

    Args:
        name: of the layer.
        shape: of the inputs.
        sizes: what takes the place of the last axes.
        bound: how many axes are summed over.
        use_bias: whether there is a bias.
        kernel_initializer: of the kernel.
        bias_initializer: of the bias.
        **options: further arguments of `keras.layers.EinsumDense`.

    Returns:
        The layer, built.

    Example:
        >>> tuple(make_projection("query", (None, 5, 7), (2, 3)).kernel.shape)
        (7, 2, 3)
    """
    letters = iter(string.ascii_lowercase)
    free = "".join(next(letters) for _ in shape[:-bound])
    summed = "".join(next(letters) for _ in shape[-bound:])
    made = "".join(next(letters) for _ in sizes)
    layer = keras.layers.EinsumDense(
        f"{free}{summed},{summed}{made}->{free}{made}",
        output_shape=(*(None for _ in free[1:]), *sizes),
        bias_axes=made if use_bias else None,
        kernel_initializer=copied(kernel_initializer),
        bias_initializer=copied(bias_initializer),
        name=name,
        **options,
    )
    # A projection works step by step: it destroys no mask, and need not warn that it does.
    layer.supports_masking = True
    layer.build(tuple(shape))
    return layer


def check_same_steps(value_shape: Sequence, key_shape: Sequence) -> None:
    """Raises `ValueError` unless values and keys have the same steps.

    Example:
        >>> check_same_steps((2, 3, 5), (2, 4, 5))
        Traceback (most recent call last):
        ValueError: the steps of value and key must be equal, not those of (2, 3, 5), (2, 4, 5)
    """
    if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
        raise ValueError(
            "the steps of value and key must be equal, not those of "
            f"{tuple(value_shape)}, {tuple(key_shape)}"
        )
