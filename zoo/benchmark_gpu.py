"""What the layers take on a GPU, under JAX or PyTorch, times taken in turns in one process.

As in `zoo.benchmark`, a case is a function that returns what to time, the peer first. Each function
ends when the GPU is done. Nothing is imported but the backend: TensorFlow need not be there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

Contest = dict[str, Callable[[], Any]]


def train_lstm(
    rows: int, steps: int, size: int, policy: str = "float32", masked: bool = False
) -> Contest:
    """One gradient of an LSTM's outputs, for its input and weights, both in one precision."""
    from zoo.layers import LSTM

    mask = None
    if masked:  # lengths like those of film reviews
        lengths = np.random.default_rng(3).lognormal(5.2, 0.65, rows).astype("int32")
        mask = np.arange(steps) < lengths.clip(10, steps)[:, None]
    options: dict[str, Any] = {"return_sequences": True, "dtype": policy}
    on_torch = keras.backend.backend() == "torch"
    # Under JAX, Keras 3.15 asks cuDNN for bfloat16, which JAX has not, and fails.
    use_cudnn = "auto" if on_torch or policy == "float32" else False
    theirs = keras.layers.LSTM(size, use_cudnn=use_cudnn, **options)
    contest = {
        name: _gradients(layer, (rows, steps, size), mask=mask)
        for name, layer in (("keras", theirs), ("zoo", LSTM(size, **options)))
    }
    if on_torch and not masked and policy == "float32":
        import torch

        own = torch.nn.LSTM(size, size, batch_first=True).to(_device())
        contest["torch"] = _torch_gradients(lambda x: own(x)[0], own, (rows, steps, size))
    return contest


def train_attention(
    rows: int, steps: int, policy: str = "float32", size: int = 256, heads: int = 8
) -> Contest:
    """One gradient of self-attention, for its input and weights, both in one precision."""
    from zoo.layers import MultiHeadAttention

    classes = (("keras", keras.layers.MultiHeadAttention), ("zoo", MultiHeadAttention))
    return {
        name: _gradients(cls(heads, size // heads, dtype=policy), (rows, steps, size), twice=True)
        for name, cls in classes
    }


def train_min_lstm(rows: int, steps: int, size: int) -> Contest:
    """One gradient of a minimal LSTM, whose steps are an associative scan, against an LSTM's."""
    from zoo.layers import MinLSTM

    classes = (("keras", keras.layers.LSTM), ("zoo", MinLSTM))
    return {
        name: _gradients(cls(size, return_sequences=True), (rows, steps, size))
        for name, cls in classes
    }


_POLICIES = ("float32", "mixed_bfloat16")
CASES: dict[str, Callable[[], Contest]] = {
    **{
        f"lstm training {'x'.join(map(str, shape))} {policy}": partial(train_lstm, *shape, policy)
        for policy in _POLICIES
        for shape in ((64, 256, 128), (128, 256, 256))
    },
    "lstm training, review lengths": partial(train_lstm, 64, 512, 128, masked=True),
    **{
        f"attention training {rows}x{steps} {policy}": partial(
            train_attention, rows, steps, policy=policy
        )
        for policy in _POLICIES
        for rows, steps in ((16, 512), (2, 4096))
    },
    "MinLSTM training 64x1024x128 against Keras's LSTM": partial(train_min_lstm, 64, 1024, 128),
}


def _noise(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _gradients(
    layer: keras.layers.Layer, shape: tuple[int, ...], mask: Any = None, twice: bool = False
) -> Callable[[], Any]:
    layer.build(*[shape] * (2 if twice else 1))
    mask = None if mask is None else keras.ops.convert_to_tensor(mask)

    def call(x: Any) -> Any:
        arguments = {} if mask is None else {"mask": mask}
        return layer(*[x] * (2 if twice else 1), training=True, **arguments)

    if keras.backend.backend() == "torch":
        return _torch_gradients(call, layer, shape)
    import jax

    variables = layer.trainable_variables
    upstream = jax.numpy.asarray(_noise(*shape, seed=2))

    def loss(x: Any, weights: list) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return (call(x).astype("float32") * upstream).sum()

    step = jax.jit(jax.grad(loss, argnums=(0, 1)))
    inputs = jax.numpy.asarray(_noise(*shape, seed=1)), [v.value for v in variables]
    return lambda: jax.block_until_ready(step(*inputs))


def _torch_gradients(call: Callable, module: Any, shape: tuple[int, ...]) -> Callable[[], Any]:
    import torch

    x, upstream = (torch.tensor(_noise(*shape, seed=seed), device=_device()) for seed in (1, 2))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    sides = [x.requires_grad_(), *weights]

    def step() -> None:
        torch.autograd.grad((call(x).float() * upstream).sum(), sides)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return step


def _device() -> Any:
    return keras.ops.zeros(1).device  # where Keras puts its weights


def seconds(case: str, rounds: int) -> dict[str, float]:
    """The least of times taken in turns, after three runs not counted, in this process.

    Args:
        case: a key of `CASES`.
        rounds: how many times each is timed.

    Returns:
        Seconds by name, the peer first.
    """
    from zoo.benchmark import take_turns

    return take_turns(CASES[case](), rounds)


def has_gpu() -> bool:
    """Whether the backend finds a GPU."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() == "gpu"


def machine() -> str:
    """The GPU and the backend, in words."""
    if keras.backend.backend() == "torch":
        import torch

        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    import jax

    return f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
