"""One step at a time, attention goes other ways than with many, to the same numbers."""

import keras
import numpy as np
import pytest

from zoo.layers.attention_projections import make_projection
from zoo.layers.dot_product import attend, portable_attention

B, S, H, G, K, V, D = 2, 13, 6, 3, 5, 7, 11


@pytest.mark.parametrize("groups", [H, G, 1])
@pytest.mark.parametrize(
    "option", [{}, {"soft_cap": 0.5}, {"mask": "a mask"}, {"bias": "a bias"}, {"scale": 3.0}]
)
def test_one_query_attends_as_many_do(option, groups, rng, assert_near):
    query = rng.normal(size=(B, 1, H, K)).astype("float32")
    key, value = (rng.normal(size=(B, S, groups, n)).astype("float32") for n in (K, V))
    given = {"mask": rng.random((B, 1, 1, S)) < 0.5, "bias": rng.normal(size=(H, 1, S))}
    given["mask"][0] = False  # a query that may attend to nothing
    options = {name: given.get(name, value) for name, value in option.items()}
    tensors = [keras.ops.convert_to_tensor(side) for side in (query, key, value)]
    ours = attend(*tensors, **options, return_weights=True)
    assert_near(list(ours), list(portable_attention(*tensors, **options)))
    if "mask" in options:
        assert not keras.ops.convert_to_numpy(ours[0])[0].any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_beyond_half_precision_are_no_infinities(dtype, numpy):
    one = keras.ops.ones((1, 4, 1, 2), dtype)
    context, _ = attend(300 * one[:, :1], 300 * one, one, scale=1.0)
    np.testing.assert_array_equal(numpy(keras.ops.cast(context, "float32")), 1.0)


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "sigmoid"}])
@pytest.mark.parametrize(
    ("shape", "sizes", "bound"), [((None, None, D), (H, K), 1), ((None, None, H, V), (D,), 2)]
)
def test_one_step_is_projected_as_many_are(
    shape, sizes, bound, options, rng, randomize, numpy, assert_near
):
    layer = make_projection("some", shape, sizes, bound=bound, **options)
    randomize(layer)
    x = rng.normal(size=(B, S, *shape[2:])).astype("float32")
    whole = numpy(layer(x))
    assert whole.shape == (B, S, *sizes)
    assert_near(layer(x[:, 3:4]), whole[:, 3:4])
