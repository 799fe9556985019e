"""Step-by-step decoding with a cache, against all steps at once."""

import itertools

import keras
import numpy as np
import pytest

from zoo.layers import MultiHeadAttention
from zoo.layers.attention_cache import AttentionCache

# Every dimension is its own prime, so that a swapped axis cannot pass; but heads must share.
B, T, D, H, G, K, V, LIMIT = 5, 11, 7, 6, 3, 10, 23, 13
BACKEND = keras.backend.backend()
POSITIONS = (None, "rotary", "alibi", "relative")


def make_layer(randomize, **options):
    layer = MultiHeadAttention(
        H,
        K,
        value_dim=V,
        **{"relative_num_buckets": 8, "relative_max_distance": 7, **options},
    )
    layer.build((B, T, D), (B, T, D))
    randomize(layer)
    return layer


def decode(layer, x, sizes, numpy, first=0, **arguments):
    """The outputs of chunks of these sizes, one after another."""
    cache, outputs, index = layer.init_cache(len(x), LIMIT), [], first
    for size in sizes:
        part = x[:, index - first : index - first + size]
        masks = {k: m[:, index - first : index - first + size] for k, m in arguments.items()}
        output, cache = layer(part, part, cache=cache, cache_index=index, **masks)
        outputs.append(numpy(output))
        index += size
    return np.concatenate(outputs, axis=1), cache


@pytest.fixture
def x(rng):
    return rng.normal(size=(B, T, D)).astype("float32")


@pytest.mark.parametrize("sizes", [[1] * T, [T], [5, 1, 3, 1, 1]], ids=["steps", "once", "chunks"])
@pytest.mark.parametrize(
    ("position", "groups", "window"),
    list(itertools.product(POSITIONS, (None, G), (None, 3))),
)
def test_decoding_equals_all_at_once(
    position, groups, window, sizes, x, randomize, numpy, assert_near
):
    layer = make_layer(randomize, position=position, num_kv_heads=groups, sliding_window=window)
    outputs, cache = decode(layer, x, sizes, numpy)
    assert_near(outputs, layer(x, x, use_causal_mask=True))
    assert isinstance(cache, AttentionCache)
    assert cache.key.shape == (B, groups or H, LIMIT, K)
    assert cache.value.shape == (B, groups or H, LIMIT, V)
    np.testing.assert_array_equal(numpy(cache.mask), np.arange(LIMIT)[None].repeat(B, 0) < T)


@pytest.mark.parametrize(
    "options",
    [{"qk_norm": True, "position": "rotary"}, {"logits_soft_cap": 0.5}, {"use_gate": True}],
    ids=["norm", "cap", "gate"],
)
def test_decoding_with_the_other_options(options, x, randomize, numpy, assert_near):
    layer = make_layer(randomize, num_kv_heads=G, **options)
    assert_near(decode(layer, x, [4] + [1] * 7, numpy)[0], layer(x, x, use_causal_mask=True))


@pytest.mark.parametrize("position", POSITIONS)
def test_a_sequence_may_begin_anywhere(position, x, randomize, numpy, assert_near):
    """What was never written is not seen, and positions are told as distances."""
    layer = make_layer(randomize, position=position)
    outputs, cache = decode(layer, x, [3] + [1] * 8, numpy, first=2)
    assert_near(outputs, layer(x, x, use_causal_mask=True))
    assert not numpy(cache.mask)[:, :2].any()


def test_padding_is_not_seen(x, randomize, numpy, assert_near):
    layer = make_layer(randomize, position="rotary", num_kv_heads=G)
    real = np.random.default_rng(4).random((B, T)) < 0.7
    outputs, cache = decode(layer, x, [4] + [1] * 7, numpy, value_mask=real, query_mask=real)
    full = layer(x, x, value_mask=real, query_mask=real, use_causal_mask=True)
    assert_near(outputs, full)
    np.testing.assert_array_equal(numpy(cache.mask)[:, :T], real)


def test_masks_and_bias_are_of_the_cache_and_scores_come_with_it(x, randomize, numpy, assert_near):
    layer = make_layer(randomize)
    rng = np.random.default_rng(6)
    mask = rng.random((B, H, T, LIMIT)) < 0.7
    bias = rng.normal(size=(H, T, LIMIT)).astype("float32")
    cache, outputs, weights = layer.init_cache(B, LIMIT), [], []
    for size, index in ((6, 0), (5, 6)):
        part, rows = x[:, index : index + size], slice(index, index + size)
        output, scores, cache = layer(
            part,
            part,
            cache=cache,
            cache_index=index,
            attention_mask=mask[:, :, rows],
            bias=bias[:, rows],
            return_attention_scores=True,
        )
        assert scores.shape == (B, H, size, LIMIT)
        outputs.append(numpy(output)), weights.append(numpy(scores))
    full = layer(
        x,
        x,
        attention_mask=mask[..., :T],
        bias=bias[..., :T],
        use_causal_mask=True,
        return_attention_scores=True,
    )
    assert_near(np.concatenate(outputs, 1), full[0])
    assert_near(np.concatenate(weights, 2)[..., :T], full[1])


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("jit", [False, True])
def test_a_graph_decodes_with_a_place_that_is_a_tensor(
    position, jit, x, randomize, numpy, assert_near
):
    if BACKEND == "torch":
        pytest.skip("torch runs eagerly")
    layer = make_layer(randomize, position=position, num_kv_heads=G, sliding_window=4)

    def step(part, cache, index):
        return layer(part, part, cache=cache, cache_index=index)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        step = tf.function(step, jit_compile=jit)
    else:
        import jax

        step = jax.jit(step)
    cache, outputs = layer.init_cache(B, LIMIT), []
    for index in range(T):
        part = keras.ops.convert_to_tensor(x[:, index : index + 1])
        place = keras.ops.convert_to_tensor(index, dtype="int32")
        output, cache = step(part, cache, place)
        outputs.append(numpy(output))
    assert isinstance(cache, AttentionCache)
    assert_near(np.concatenate(outputs, 1), layer(x, x, use_causal_mask=True))
    if BACKEND == "tensorflow":
        assert step.experimental_get_tracing_count() == 1
        kinds = {
            o.type for o in step.get_concrete_function(part, cache, place).graph.get_operations()
        }
        # What serves knows TensorFlow's own operations alone.
        assert not any("Xla" in kind for kind in kinds)


@pytest.mark.parametrize("place", [-LIMIT - 1, -2, -1, LIMIT, LIMIT + 1])
def test_a_place_that_is_none_is_not_kept(place, x, randomize, numpy):
    layer = make_layer(randomize)
    part, place = x[:, :1], keras.ops.convert_to_tensor(place, dtype="int32")
    _, cache = layer(part, part, cache=layer.init_cache(B, LIMIT), cache_index=place)
    assert not numpy(cache.mask).any()
    assert not numpy(cache.key).any()


def test_the_cache_that_is_passed_stays_as_it_is(x, randomize, numpy):
    layer = make_layer(randomize)
    empty = layer.init_cache(B, LIMIT)
    _, cache = layer(x[:, :1], x[:, :1], cache=empty, cache_index=2)
    assert numpy(cache.key)[:, :, 2].all()
    assert not numpy(empty.key).any()


def test_a_model_takes_and_gives_a_cache_and_is_saved(x, randomize, assert_near, tmp_path):
    layer = MultiHeadAttention(H, K, num_kv_heads=G)
    step = keras.Input((1, D))
    key, value = (keras.Input((G, LIMIT, K)) for _ in range(2))
    mask = keras.Input((LIMIT,), dtype="bool")
    cache = AttentionCache(key, value, mask)
    outputs = layer(step, step, cache=cache, cache_index=2, return_attention_scores=True)
    assert outputs[0].shape == (None, 1, D)
    assert outputs[1].shape == (None, H, 1, LIMIT)
    assert [part.shape for part in outputs[2]] == [part.shape for part in cache]
    model = keras.Model([step, *cache], outputs)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    part = keras.ops.convert_to_tensor(x[:, :1])
    empty = layer.init_cache(B, LIMIT)
    expected = layer(part, part, cache=empty, cache_index=2, return_attention_scores=True)
    for some in (model, loaded):
        assert_near(
            [keras.ops.cast(t, "float32") for t in keras.tree.flatten(some([part, *empty]))],
            [keras.ops.cast(t, "float32") for t in keras.tree.flatten(expected)],
        )


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16", "float64"])
def test_the_cache_has_the_layer_s_type(dtype):
    if BACKEND == "jax" and dtype == "float64":
        pytest.skip("jax has no float64 unless told so for the whole process")
    layer = MultiHeadAttention(H, K, dtype=dtype)
    cache = layer.init_cache(B, LIMIT)
    types = [keras.backend.standardize_dtype(part.dtype) for part in cache]
    name = dtype.removeprefix("mixed_")
    assert types == [name, name, "bool"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache_index": 0}, "cache=None and cache_index=0 do not go together"),
        ({"cache": "a cache"}, "cache_index=None do not go together"),
        ({"cache": "a cache", "cache_index": LIMIT - T + 1}, "cache_index=3 leaves no place"),
        ({"cache": "a cache", "cache_index": -1}, "cache_index=-1 leaves no place"),
        ({"cache": "two rows", "cache_index": 0}, r"cache of 2 rows needs a query \[2, T, D\]"),
        (
            {"cache": "a cache", "cache_index": 0, "value_mask": np.ones((B, LIMIT), bool)},
            "value_mask of the shape",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message, x):
    layer = MultiHeadAttention(H, K)
    caches = {"a cache": layer.init_cache(B, LIMIT), "two rows": layer.init_cache(2, LIMIT)}
    if "cache" in arguments:
        arguments = {**arguments, "cache": caches[arguments["cache"]]}
    with pytest.raises(ValueError, match=message):
        layer(x, x, **arguments)


def test_query_and_value_are_the_same_steps(x):
    layer = MultiHeadAttention(H, K)
    with pytest.raises(ValueError, match=r"same steps, .* \(5, 2, 7\) and \(5, 3, 7\)"):
        layer(x[:, :2], x[:, :3], cache=layer.init_cache(B, LIMIT), cache_index=0)


def test_a_cache_of_no_size_is_refused():
    for sizes in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="must be a positive integer, not 0"):
            MultiHeadAttention(H, K).init_cache(*sizes)
