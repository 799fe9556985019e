"""datasets/blocks.py: which texts are dropped, and where the others go."""

import collections

from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.folders import load

blocks = load("", "blocks")


def test_repeats_conflicts_and_short_texts_are_dropped():
    rows = [
        ("Fine!", "good"),
        ("fine", "good"),  # repeats
        ("so so", "good"),  # is bad, too
        ("x", "bad"),  # short
        ("So so.", "bad"),
        ("awful", "bad"),
    ]
    splits = blocks.split_texts(rows, lambda text: text.lower().strip("!."))
    assert splits == {
        "train": [("good_00000", "Fine!", "good"), ("bad_00000", "awful", "bad")],
        "validation": [],
        "test": [],
    }


def test_splits_are_blocks_of_fifty():
    where = [blocks.split_of(number) for number in range(1_000)]
    assert where[:200] == ["train"] * 200
    assert where[200:250] == ["test"] * 50
    assert where[350:400] == ["validation"] * 50
    assert where[450:500] == ["test"] * 50
    assert where[500:] == where[:500]
    assert collections.Counter(where) == {"train": 700, "validation": 100, "test": 200}


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("+-")), max_size=40))
def test_a_text_stands_once_and_under_its_only_label(rows):
    rows = [(text * 2, label) for text, label in rows]
    splits = blocks.split_texts(rows, str)
    kept = [(text, label) for split in splits.values() for _, text, label in split]
    labels = collections.defaultdict(set)
    for text, label in rows:
        labels[text].add(label)
    assert sorted(text for text, _ in kept) == sorted(t for t, of in labels.items() if len(of) == 1)
    assert all(labels[text] == {label} for text, label in kept)
