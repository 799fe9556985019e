"""Attention in blocks equals attention as its equations have it, in values and gradients."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.layers import attention_blocks_fast
from zoo.layers.attention_fast import blocked_attention, takes
from zoo.layers.dot_product import portable_attention

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a fast path of TensorFlow's"
)
FEW = settings(derandomize=True, max_examples=25, deadline=None, database=None)
TOLERANCE = {"float32": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}
sizes = st.integers(1, 9)


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    """Blocks so small that a test's inputs make several."""
    patch = pytest.MonkeyPatch()
    patch.setattr(attention_blocks_fast, "BLOCK", 40)
    patch.setattr(attention_blocks_fast, "FEWEST_ROWS", 3)
    patch.setattr("zoo.layers.attention_fast.SHORTEST_SEGMENT", 2)
    yield
    patch.undo()


def inputs(rng, dtype, batch, rows, columns, groups, share, size, channels):
    import tensorflow as tf

    shapes = (
        (batch, rows, groups * share, size),
        (batch, columns, groups, size),
        (batch, columns, groups, channels),
    )
    return [tf.cast(rng.normal(size=shape), dtype) for shape in shapes]


def results(attend, tensors, **options):
    """The context, and the gradients of a fixed weighted sum of it."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        context = attend(*tensors[:3], *tensors[3:], **options)
        wide = tf.cast(context, tf.float32)
        weights = tf.cos(tf.range(tf.size(wide), dtype=tf.float32))
        loss = tf.tensordot(tf.reshape(wide, [-1]), weights, 1)
    return [context, *tape.gradient(loss, tensors)]


def fast(query, key, value, bias=None, **options):
    return blocked_attention(query, key, value, scale=0.4, bias=bias, **options)


def plain(query, key, value, bias=None, **options):
    return portable_attention(query, key, value, scale=0.4, bias=bias, **options)[0]


def assert_equal(ours, theirs, dtype="float32"):
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        one, other = (np.asarray(x).astype("float32") for x in (one, other))
        peak = max(1.0, np.abs(other).max(initial=0.0))
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE[dtype] * peak)


@FEW
@given(data=st.data(), batch=st.integers(1, 3), rows=st.integers(1, 19), columns=st.integers(1, 19))
def test_it_equals_the_portable_way(data, batch, rows, columns):
    import tensorflow as tf

    rng = np.random.default_rng([batch, rows, columns])
    groups, share = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    dtype = data.draw(st.sampled_from(sorted(TOLERANCE)))
    tensors = inputs(rng, dtype, batch, rows, columns, groups, share, 3, data.draw(sizes))
    full = (batch, groups * share, rows, columns)
    options = {
        "causal": data.draw(st.booleans()),
        "window": data.draw(st.none() | st.integers(1, 6)),
        "soft_cap": data.draw(st.sampled_from([None, 1.5])),
    }
    ones = st.tuples(*[st.booleans()] * 4)
    if data.draw(st.booleans()):
        shape = [1 if one else n for one, n in zip(data.draw(ones), full, strict=True)]
        options["mask"] = tf.constant(rng.random(shape) < 0.6)
    if data.draw(st.booleans()):
        shape = [1 if one else n for one, n in zip(data.draw(ones), full, strict=True)]
        tensors.append(tf.constant(rng.normal(size=shape), "float32"))
    ours, theirs = (results(attend, tensors, **options) for attend in (fast, plain))
    assert_equal(ours, theirs, dtype)


@pytest.mark.parametrize("kind", ["unknown", "known", "compiled"])
@pytest.mark.parametrize("options", [{}, {"causal": True, "window": 3}], ids=["all", "ordered"])
def test_it_works_inside_a_graph(kind, options, rng):
    import tensorflow as tf

    tensors = inputs(rng, "float32", 2, 13, 13, 2, 2, 3, 5)
    mask = tf.constant(rng.random((2, 1, 1, 13)) < 0.6)

    def step(mask, *tensors):
        return results(fast, list(tensors), mask=mask, **options)

    signature = None
    if kind == "unknown":
        signature = [tf.TensorSpec((None, 1, 1, None), tf.bool)]
        signature += [tf.TensorSpec((None, None, *x.shape[2:]), x.dtype) for x in tensors]
    graph = tf.function(step, input_signature=signature, jit_compile=kind == "compiled")
    expected = results(plain, tensors, mask=mask, **options)
    assert_equal(graph(mask, *tensors), expected)
    if kind == "unknown":
        longer = inputs(rng, "float32", 3, 17, 11, 2, 2, 3, 5)
        mask = tf.ones((3, 1, 1, 11), tf.bool)
        assert_equal(graph(mask, *longer), results(plain, longer, mask=mask, **options))
        assert len(graph._list_all_concrete_functions()) == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 0, 3), (2, 3, 0), (0, 3, 3)])
def test_sizes_of_one_and_none(shape, rng):
    tensors = inputs(rng, "float32", *shape, 1, 1, 2, 2)
    assert_equal(*(results(attend, tensors) for attend in (fast, plain)))


def test_a_row_that_sees_nothing_is_zero_and_so_are_its_gradients(rng):
    import tensorflow as tf

    tensors = inputs(rng, "float32", 2, 5, 5, 1, 1, 3, 3)
    bias = tf.fill((1, 1, 5, 5), -1e9)
    mask = tf.constant([[True], [False]])[:, :, None, None]
    for grad in results(fast, [*tensors, bias], mask=mask)[:4]:
        assert np.abs(grad[0]).max() > 0
        assert not np.any(grad[1])


def test_its_graph_is_of_stock_operations_and_can_be_saved(rng, tmp_path):
    import tensorflow as tf

    tensors = inputs(rng, "float32", 2, 64, 64, 1, 2, 3, 3)

    class Served(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(x.shape, x.dtype) for x in tensors])
        def serve(self, *tensors):
            return fast(*tensors, causal=True)

    module = Served()
    graph = module.serve.get_concrete_function().graph
    operations = [*graph.get_operations()]
    for function in graph.as_graph_def().library.function:
        operations += list(function.node_def)
    names = {getattr(o, "type", None) or o.op for o in operations}
    assert any("While" in name for name in names)
    assert not any("Xla" in name for name in names)
    assert not {name for name in names if name not in tf.raw_ops.__dict__} - {
        function.signature.name for function in graph.as_graph_def().library.function
    }
    tf.saved_model.save(module, str(tmp_path))
    again = tf.saved_model.load(str(tmp_path)).serve(*tensors)
    np.testing.assert_allclose(again, plain(*tensors, causal=True), atol=2e-5)


def test_it_takes_what_is_worth_it(monkeypatch):
    import tensorflow as tf

    small, large = tf.ones((1, 5, 2, 3)), tf.ones((2, 512, 2, 3))
    monkeypatch.setattr("zoo.layers.attention_fast.BLOCK", 2**18)
    assert takes(large, large, large, scale=1.0)
    assert not takes(small, small, small, scale=1.0)
    assert not takes(large[..., None], large[..., None], large[..., None], scale=1.0)
    assert not takes(*[keras.KerasTensor((None, 512, 2, 3))] * 3, scale=1.0)
    assert not takes(*[tf.cast(large, "int32")] * 3, scale=1.0)


@pytest.mark.parametrize("kept", [0, attention_blocks_fast.KEPT], ids=["anew", "kept"])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"soft_cap": 1.5}], ids=str)
def test_the_gradient_has_a_gradient(options, kept, rng, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(attention_blocks_fast, "KEPT", kept)
    tensors = inputs(rng, "float32", 2, 13, 13, 2, 1, 3, 5)
    found = []
    for attend in (fast, plain):
        with tf.GradientTape() as outer:
            outer.watch(tensors)
            slopes = results(attend, tensors, **options)[1:]
            square = sum(tf.reduce_sum(slope**2) for slope in slopes)
        found.append(outer.gradient(square, tensors))
    assert_equal(*found)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)], ids=str)
def test_a_masked_batch_without_rows_or_steps_in_a_graph_that_knows_no_size(shape):
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None, 2, 3)), tf.TensorSpec((None, 1, 1, None), tf.bool)]

    @tf.function(input_signature=signature)
    def run(x, mask):
        return blocked_attention(x, x, x, scale=0.4, mask=mask)

    rows, steps = shape
    result = run(tf.zeros((rows, steps, 2, 3)), tf.ones((rows, 1, 1, steps), tf.bool))
    assert result.shape == (rows, steps, 2, 3)
