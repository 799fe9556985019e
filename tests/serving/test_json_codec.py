"""JSON to arrays and back, whatever it holds."""

import json
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from zoo.serving import json_codec
from zoo.serving.failure import Failure
from zoo.serving.signatures import PREDICT, Signature, Spec

DTYPES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint64", "bool"]


def spec(dtype, rank):
    return Spec(tf.as_dtype(dtype), (None,) * rank, "x:0")


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=4, min_side=1))
    )
)
def test_numbers_come_back_as_they_went(array):
    text = json_codec.answered({"x": array}, rows=False)
    value = json.loads(text)["outputs"]
    back = json_codec.array_of("x", value, spec(array.dtype, array.ndim), 10_000)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_strings_come_back_as_they_went(values):
    array = np.array([*values, None], object)[:-1]
    for key in ("x", "x_bytes"):
        value = json.loads(json_codec.answered({key: array}, rows=False))["outputs"]
        back = json_codec.array_of("x", value, spec("string", 1), 100)
        assert back.tolist() == values
    assert all(set(item) == {"b64"} for item in value)


@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4), max_size=4))
def test_uneven_lists_are_filled_up_with_zeros_behind_their_elements(value):
    array = json_codec.array_of("x", value, spec("int32", 3), 10_000)
    for i, rows in enumerate(value):
        for j, row in enumerate(rows):
            assert array[i, j, : len(row)].tolist() == row
            assert not array[i, j, len(row) :].any()
        assert not array[i, len(rows) :].any()


def test_what_fills_up_has_the_sizes_that_are_fixed():
    fixed = Spec(tf.float32, (None, None, 2), "x:0")
    array = json_codec.array_of("x", [[[1, 2], [3, 4]], [[5, 6]], []], fixed, 100)
    assert array.tolist() == [[[1, 2], [3, 4]], [[5, 6], [0, 0]], [[0, 0], [0, 0]]]
    assert json_codec.array_of("x", [], fixed, 100).shape == (0, 0, 2)
    text = json_codec.array_of("x", [["a", "b"], ["c"]], spec("string", 2), 100)
    assert text.tolist() == [[b"a", b"b"], [b"c", b""]]


def test_a_rank_that_is_unknown_is_the_values_own():
    any_rank = Spec(tf.int32, None, "x:0")
    assert json_codec.array_of("x", 7, any_rank, 100).shape == ()
    assert json_codec.array_of("x", [[7], [8, 9]], any_rank, 100).tolist() == [[7, 0], [8, 9]]


def test_a_single_value_that_looks_like_base64_but_has_a_name_of_that_kind():
    named = Signature("s", PREDICT, {"b64": spec("string", 1)}, {"x": spec("string", 1)})
    got = json_codec.arrays_of({"instances": [{"b64": "YQ=="}]}, named, 100)
    assert got["b64"].tolist() == [b"YQ=="]


def test_rows_are_refused_where_the_outputs_are_none():
    mixed = {"x": np.zeros((2, 3)), "mean": np.zeros(())}
    assert json.loads(json_codec.answered(mixed, rows=False))["outputs"]["mean"] == 0
    with pytest.raises(Failure, match="ask for columns"):
        json_codec.answered(mixed, rows=True)


@pytest.mark.parametrize("dtype", ["complex64", "qint8", "resource"])
def test_what_json_has_no_words_for_is_refused(dtype):
    with pytest.raises(Failure, match="cannot be given as JSON"):
        json_codec.array_of("x", [1], spec(dtype, 1), 100)


def test_no_value_is_nested_deeper_than_an_array_can_be():
    any_rank, value = Spec(tf.int32, None, "x:0"), 7
    for _ in range(64):
        value = [value]
    assert json_codec.array_of("x", value, any_rank, 100).ndim == 64
    with pytest.raises(Failure, match="nested more than 64 deep"):
        json_codec.array_of("x", [value], any_rank, 100)


def test_an_answer_over_the_limit_is_not_put_into_words():
    outputs = {"x": np.zeros((10, 5)), "y": np.zeros((10, 6))}
    json_codec.answered(outputs, rows=True, max_elements=110)
    with pytest.raises(Failure, match="more than 109 elements"):
        json_codec.answered(outputs, rows=True, max_elements=109)


def test_numbers_take_little_room_on_their_way():
    array = np.random.default_rng(0).random(50_000, np.float32)
    tracemalloc.start()
    json_codec.answered({"x": array}, rows=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 * array.size
