"""The projections of attention: one matrix for all heads, over the last axes."""

import math
import string
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.layers.arguments import copied


class Projection(keras.layers.EinsumDense):
    """`keras.layers.EinsumDense`, which takes one step as the product of two matrices.

    As the einsum has it, every row would be a product of its own, which costs several times what it
    computes: a step of generation is made of these.

    Args:
        equation: of `EinsumDense`, its first input a batch, its steps, and what is summed over.
        *args: of `EinsumDense`.
        **kwargs: of `EinsumDense`.

    Example:
        >>> layer = Projection("abc,cde->abde", (None, 2, 3))
        >>> tuple(layer(ops.ones((4, 1, 7))).shape)
        (4, 1, 2, 3)
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The projection."""
        if inputs.shape[1] != 1:
            return super().call(inputs, training=training)
        sizes = tuple(self.kernel.shape[len(inputs.shape) - 2 :])
        rows = ops.reshape(inputs, (-1, math.prod(inputs.shape[2:])))  # [B, D]
        kernel = ops.reshape(self.kernel, (rows.shape[1], math.prod(sizes)))  # [D, H K]
        x = ops.matmul(rows, kernel)  # [B, H K]
        if self.bias is not None:
            x = x + ops.reshape(self.bias, (-1,))
        x = ops.reshape(x, (-1, 1, *sizes))  # [B, 1, H, K]
        return x if self.activation is None else self.activation(x)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """As `EinsumDense` does, which refuses what is derived from it and may compute otherwise.

        Quantised, a layer computes as `EinsumDense` does, and `call` is not asked.
        """
        del type_check
        super().quantize(mode, type_check=False, config=config)


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
    kind = Projection if len(free) == 2 else keras.layers.EinsumDense
    layer = kind(
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
