"""The way through a backend's own kernel, which is taken on a GPU, against the portable way."""

import keras
import numpy as np
import pytest

from zoo.layers import MultiHeadAttention, dot_product, fused_attention
from zoo.layers.dot_product import portable_attention

# Every dimension is its own prime, so that a swapped axis cannot pass; but heads must share.
B, T, S, D, H, G, K = 5, 11, 13, 7, 6, 3, 10
BACKEND = keras.backend.backend()


def tensors(rng, groups=H):
    shapes = ((B, T, H, K), (B, S, groups, K), (B, S, groups, K))
    return [keras.ops.convert_to_tensor(rng.normal(size=s).astype("float32")) for s in shapes]


def make_options():
    rng = np.random.default_rng(4)
    mask = rng.random((B, H, T, S)) < 0.5
    mask[1, :, 3] = False
    bias = rng.normal(size=(1, H, T, S)).astype("float32")
    return {
        "none": {},
        "mask": {"mask": mask},
        "mask-of-keys": {"mask": mask[:, :1, :1]},
        "causal": {"causal": True},
        "causal-mask": {"causal": True, "mask": mask},
        "window": {"window": 3},
        "causal-window": {"window": 3, "causal": True},
        "bias": {"bias": bias},
        "bias-mask": {"bias": bias, "mask": mask, "causal": True},
        "bias-causal": {"bias": bias, "causal": True},
    }


@pytest.mark.parametrize("groups", [H, G, 1])
@pytest.mark.parametrize("name", make_options())
def test_it_gives_what_the_portable_way_gives(name, groups, rng, assert_near):
    query, key, value = tensors(rng, groups)
    options = {
        n: keras.ops.convert_to_tensor(o) if isinstance(o, np.ndarray) else o
        for n, o in make_options()[name].items()
    }
    ours = fused_attention.fused_attention(query, key, value, scale=0.3, **options)
    expected, _ = portable_attention(query, key, value, scale=0.3, **options)
    assert_near(ours, expected)


@pytest.fixture
def kernels(monkeypatch):
    """Calls of the backend's kernel, on what passes for a GPU."""
    calls = []
    real = keras.ops.dot_product_attention

    def remember(*args, **kwargs):
        calls.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(fused_attention, "_on_gpu", lambda tensor: True)
    monkeypatch.setattr(keras.ops, "dot_product_attention", remember)
    return calls


def test_a_gpu_s_kernel_is_called_where_it_can_be(rng, kernels, numpy):
    x = rng.normal(size=(B, T, D)).astype("float32")
    mask = np.ones((B, T, T), bool)
    mask[1, 3] = False
    layer = MultiHeadAttention(H, K, num_kv_heads=G, bias_initializer="ones")
    fused = numpy(layer(x, x, attention_mask=mask))
    assert len(kernels) == 1
    np.testing.assert_allclose(fused[1, 3], 1.0, atol=1e-6)
    scored, _ = layer(x, x, attention_mask=mask, return_attention_scores=True)
    np.testing.assert_allclose(fused, numpy(scored), atol=1e-5)
    # A causal mask alone is the kernel's own.
    layer(x, x, use_causal_mask=True)
    assert kernels[-1]["is_causal"]
    assert kernels[-1]["mask"] is None


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {"return_attention_scores": True}),
        ({"dropout": 0.5}, {"training": True}),
        ({"logits_soft_cap": 1.0}, {}),
    ],
    ids=["scores", "dropout", "cap"],
)
def test_the_kernel_is_not_called_where_it_cannot_be(options, call, rng, kernels):
    x = rng.normal(size=(B, T, D)).astype("float32")
    MultiHeadAttention(H, K, **options)(x, x, **call)
    assert kernels == []


def test_jax_s_kernel_has_one_size_of_a_head(rng, kernels):
    x = rng.normal(size=(B, T, D)).astype("float32")
    MultiHeadAttention(H, K, value_dim=K + 1)(x, x)
    assert (kernels == []) == (BACKEND == "jax")


def test_the_kernel_is_not_called_on_a_processor(rng, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("called")

    monkeypatch.setattr(fused_attention, "_on_gpu", lambda tensor: False)
    monkeypatch.setattr(dot_product, "fused_attention", fail)
    x = rng.normal(size=(B, T, D)).astype("float32")
    assert MultiHeadAttention(H, K)(x, x).shape == (B, T, D)
