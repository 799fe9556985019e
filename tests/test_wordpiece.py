"""Word pieces: those of the models' own library, whatever the text."""

import unicodedata

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer

from tests.minilm import FOLDER, WORDS, varied_sentences
from zoo.errors import UsageError
from zoo.text import TextSettings
from zoo.wordpiece import SPECIAL, WordPieceEncoder, make_encoder

VOCABULARY = tuple((FOLDER / "vocab.txt").read_text("utf-8").split("\n")[:-1])
PIECES = (*SPECIAL, "film", "un", "##want", "##ed", "##wanted", "é", "!")


def make(pieces=PIECES, max_length=8, **arguments):
    return WordPieceEncoder(pieces, TextSettings("wordpiece", max_length=max_length), **arguments)


@pytest.fixture(scope="module")
def reference():
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module")
def encoder():
    return make(VOCABULARY, 100_000)


def both(encoder, reference, texts):
    expected = [encoding.ids for encoding in reference.encode_batch(texts)]
    return encoder(tf.constant([text.encode() for text in texts])).to_list(), expected


def test_a_thousand_varied_sentences_have_the_librarys_ids(encoder, reference):
    texts = varied_sentences(1_000)
    assert len(set(texts)) > 900
    found, expected = both(encoder, reference, texts)
    assert found == expected
    seen = {i for row in expected for i in row}
    assert len(seen) > 200
    assert encoder.unknown_id in seen


@pytest.mark.parametrize("max_length", [3, 7, 16])
def test_a_long_text_is_cut_where_the_library_cuts_it(reference, max_length):
    texts = varied_sentences(100, seed=2)
    encoder = make(VOCABULARY, max_length, keep_tail=False)
    _, whole = both(encoder, reference, texts)
    reference.enable_truncation(max_length)
    found, expected = both(encoder, reference, texts)
    reference.no_truncation()
    assert found == expected != whole


# Beyond these, characters are younger than the library's tables.
_OLD = st.characters(max_codepoint=0x5FF) | st.characters(
    min_codepoint=0x2000, max_codepoint=0x206F
)
_TEXTS = st.lists(st.text(_OLD) | st.sampled_from(WORDS)).map("".join)


@hypothesis.given(st.lists(_TEXTS, min_size=1, max_size=3))
@hypothesis.settings(max_examples=60, deadline=None)
def test_any_text_has_the_librarys_ids(encoder, reference, texts):
    found, expected = both(encoder, reference, texts)
    assert found == expected


@pytest.mark.slow
def test_every_character_is_treated_as_the_library_treats_it(encoder, reference):
    """Or is younger than its tables, which take it for a letter."""
    texts = [
        f"a{c}b"
        for c in map(chr, range(0x110000))
        if unicodedata.category(c) not in ("Cs", "Cn", "Co")
    ]
    found, expected = both(encoder, reference, texts)
    others = [
        text[1] for text, ours, theirs in zip(texts, found, expected, strict=True) if ours != theirs
    ]
    # Two of them have changed their category since.
    assert {unicodedata.category(c)[0] for c in others if c not in "\u1734\u166d"} <= set("MPC")
    assert all(unicodedata.category(c) != "Cc" for c in others)
    assert len(others) < 700
    assert min(others) > "\u0600"


def test_a_word_is_cut_into_the_longest_pieces_or_is_unknown():
    encoder = make()
    texts = ["Unwanted unwant film!", "unwantedx é É e\u0301", "x" * 101, ""]
    expected = [[2, 6, 9, 6, 7, 5, 11, 3], [2, 1, 1, 1, 1, 3], [2, 1, 3], [2, 3]]
    # An accent goes before a piece is looked for, so that no piece with one is ever found.
    assert encoder(tf.constant(texts)).to_list() == expected


def test_a_word_of_a_hundred_characters_is_cut_and_a_longer_one_is_not():
    encoder = make((*SPECIAL, "x", "##x"), 200)
    rows = encoder(tf.constant(["x" * 100, "x" * 101, "é" + "x" * 99])).to_list()
    assert rows == [[2, 5, *[6] * 99, 3], [2, 1, 3], [2, 1, 3]]


def test_of_a_long_text_head_and_tail_are_kept():
    encoder = make(max_length=5)
    texts = tf.constant(["film un film !", "film !"])
    assert encoder(texts).to_list() == [[2, 5, 6, 11, 3], [2, 5, 11, 3]]
    head = make(max_length=5, keep_tail=False)
    assert head(texts).to_list() == [[2, 5, 6, 5, 3], [2, 5, 11, 3]]


def test_the_names_of_special_tokens_are_these_tokens_wherever_they_stand():
    texts = ["film[SEP]film", "[sep]", "[SE\x02P]", "\x02sep\x02", "[PAD]"]
    rows = make(max_length=9)(tf.constant(texts)).to_list()
    assert rows == [[2, 5, 3, 5, 3], [2, 1, 1, 1, 3], [2, 1, 1, 1, 3], [2, 1, 3], [2, 0, 3]]


@pytest.mark.parametrize("texts", [[], [b""], [b"\xff\xfe film", b"\x00"]])
def test_any_bytes_and_any_number_of_texts_are_encoded(texts):
    encoder = make()
    dense = encoder.encode_dense(tf.constant(texts, tf.string))
    assert dense.dtype == tf.int32
    assert dense.shape[0] == len(texts)
    assert dense.shape[1] >= 1
    if len(texts) == 2:
        assert dense.numpy().tolist() == [[2, 5, 3], [2, 3, 0]]


def test_ids_and_back():
    encoder = make_encoder(PIECES, TextSettings("wordpiece", max_length=8))
    assert isinstance(encoder, WordPieceEncoder)
    assert encoder.vocabulary == PIECES
    assert encoder.num_ids == len(PIECES)
    assert encoder.unknown_id == 1
    assert encoder.settings.max_length == 8
    assert encoder.words(np.array([2, 0, 5, 3, 0, 0])) == ["[CLS]", "[PAD]", "film", "[SEP]"]


def test_saved_it_needs_none_of_this_code(tmp_path):
    module = tf.Module()
    module.encoder = make(VOCABULARY, 40)
    module.encode = tf.function(module.encoder.encode_dense, [tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path))
    texts = tf.constant(varied_sentences(20, seed=3))
    expected = module.encoder.encode_dense(texts)
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path)).encode(texts), expected)


@pytest.mark.parametrize(
    ("pieces", "max_length", "says"),
    [
        (PIECES[:3], 8, r"the vocabulary has no \[SEP\]"),
        (("film", *PIECES), 8, r"the vocabulary has \[PAD\] at 1, not at 0"),
        ((*PIECES, "film"), 8, "the vocabulary has 'film' twice"),
        (PIECES, 2, "max_length=2 has no room for a piece"),
    ],
)
def test_what_cannot_work_is_refused(pieces, max_length, says):
    with pytest.raises(UsageError, match=says):
        make(pieces, max_length)
