"""Batches of nearly one length, in an order that only seed and epoch decide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import text
from zoo.pipeline import Split, batch_plan, batches, in_order_plan, padding_share


@pytest.fixture
def split():
    """The ids of 40 rows, none of them padding's."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 13, 40))])
    ids = rng.integers(text.UNKNOWN_ID, 9, offsets[-1]).astype("int32")
    return Split(ids, offsets, rng.integers(0, 2, 40).astype("int32"))


def test_a_sample_is_of_the_seed_and_holds_the_smaller_ones(split):
    few, more = (split.sample(size, seed=3) for size in (7, 20))
    rows = [tuple(split.row(i)) for i in range(len(split))]
    places = [[rows.index(tuple(one.row(i))) for i in range(len(one))] for one in (few, more)]
    assert [len(set(one)) for one in places] == [7, 20]
    assert set(places[0]) < set(places[1])
    assert few.labels.tolist() == split.labels[places[0]].tolist()
    assert split.sample(7, seed=3).values.tolist() == few.values.tolist()
    assert split.sample(7, seed=4).values.tolist() != few.values.tolist()
    assert split.sample(40, seed=0).values.tolist() == split.values.tolist()


@pytest.mark.parametrize("size", [0, -1, 41])
def test_a_sample_of_rows_that_are_not_there_is_refused(split, size):
    with pytest.raises(ValueError, match=f"size={size}, and there are 40 rows"):
        split.sample(size, seed=0)


LENGTHS = st.lists(st.integers(1, 60), max_size=80).map(np.array)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 300), st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_a_plan_of_tokens(lengths, batch_tokens, seed, epoch):
    plan = batch_plan(lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch)
    again = batch_plan(lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch)
    for chosen in (plan, in_order_plan(lengths, batch_tokens=batch_tokens)):
        assert sorted(row for rows in chosen for row in rows) == list(range(len(lengths)))
        for rows in chosen:
            assert len(rows) * lengths[rows].max() <= batch_tokens or len(rows) == 1
        assert 0 <= padding_share(lengths, chosen) < 1
    assert [rows.tolist() for rows in plan] == [rows.tolist() for rows in again]


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(0, 9))
def test_a_plan_of_examples(lengths, batch_size, seed):
    plan = batch_plan(lengths, batch_size=batch_size, seed=seed, epoch=0)
    assert sorted(row for rows in plan for row in rows) == list(range(len(lengths)))
    assert all(0 < len(rows) <= batch_size for rows in plan)
    assert len(plan) == -(-len(lengths) // batch_size)


@pytest.mark.parametrize("by", [{"batch_tokens": 500}, {"batch_size": 16}])
def test_another_epoch_or_seed_has_other_batches(by):
    lengths = np.random.default_rng(0).integers(1, 60, 300)
    plans = {
        tuple(map(tuple, batch_plan(lengths, **by, seed=seed, epoch=epoch)))
        for seed in range(2)
        for epoch in range(3)
    }
    assert len(plans) == 6
    contents = {frozenset(map(frozenset, plan)) for plan in plans}
    assert len(contents) == 6  # not only in another order


@pytest.mark.parametrize("by", [{}, {"batch_tokens": 1, "batch_size": 1}, {"batch_size": -1}])
def test_a_plan_needs_one_size(by):
    with pytest.raises(ValueError, match="batch_size="):
        batch_plan(np.array([1]), **by, seed=0, epoch=0)


@pytest.mark.parametrize("start", [0, 1, 5, 10_000])
def test_start_leaves_out_exactly_so_many_batches(start, split):
    plan = batch_plan(split.lengths, batch_tokens=60, seed=0, epoch=0)
    every = list(batches(split, plan))
    rest = list(batches(split, plan, start=start))
    assert len(every) == len(plan)
    assert len(rest) == max(0, len(plan) - start)
    for (one, labels), (other, same) in zip(every[start:], rest, strict=True):
        np.testing.assert_array_equal(one["ids"], other["ids"])
        np.testing.assert_array_equal(labels, same)


def test_batches_are_padded_to_their_own_longest(split):
    plan = batch_plan(split.lengths, batch_tokens=60, seed=0, epoch=0)
    for rows, (inputs, labels) in zip(plan, batches(split, plan), strict=True):
        ids = inputs["ids"].numpy()
        assert ids.shape == (len(rows), split.lengths[rows].max())
        assert labels.numpy().tolist() == split.labels[rows].tolist()
        for row, padded in zip(rows, ids, strict=True):
            length = split.lengths[row]
            assert padded[:length].tolist() == split.row(row).tolist()
            assert (padded[length:] == text.PAD_ID).all()
            assert (padded[:length] != text.PAD_ID).all()


def test_no_batches_at_all():
    nothing = Split(np.zeros(0, "int32"), np.zeros(1, "int64"), np.zeros(0, "int32"))
    assert list(batches(nothing, batch_plan(nothing.lengths, batch_size=4, seed=0, epoch=0))) == []
    assert padding_share(nothing.lengths, []) == 0


@pytest.mark.parametrize("batch_tokens", [2_048, 8_192, 32_768])
@pytest.mark.parametrize("max_length", [256, 10_000])
def test_little_is_padding_at_lengths_like_those_of_reviews(batch_tokens, max_length):
    # Lengths of film reviews are near to log-normal: about 230 words, few below 50, some of 1,000.
    drawn = np.random.default_rng(0).lognormal(5.45, 0.6, 17_711).astype("int64")
    lengths = np.clip(drawn, 1, min(max_length, batch_tokens))
    for epoch in range(2):
        plan = batch_plan(lengths, batch_tokens=batch_tokens, seed=0, epoch=epoch)
        assert padding_share(lengths, plan) < 0.1
