"""Ids to text and back: what is joined is split into the same tokens again."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generators import CHARACTERS
from zoo.errors import UsageError
from zoo.joining import Joiner, spaces_around
from zoo.text import TextEncoder, TextSettings

WORDS = ("a", "don't", "film", ",", ".", "(", ")", "-", "/", '"', "$", "片", "映", "。", "¿")
WORDS += ("영", "'", "₩", "x2")


def join(encoder, ids):
    ids = tf.constant([ids], tf.int32)
    previous = tf.concat([[[0]], ids], axis=1)[:, :-1]
    return tf.strings.reduce_join(Joiner(encoder)(previous, ids), axis=1).numpy()[0]


def make_encoder(unit, vocabulary=()):
    return TextEncoder(vocabulary, TextSettings(unit, 300, 100))


@settings(deadline=None)
@given(st.lists(st.sampled_from([w for w in WORDS if w != "'"]), min_size=1, max_size=20))
def test_words_joined_are_split_into_the_same_words(words):
    encoder = make_encoder("word", WORDS)
    text = join(encoder, [2 + WORDS.index(word) for word in words])
    assert "  " not in text.decode()
    found = [word.decode() for word in encoder.split(tf.constant([text])).numpy()[0]]
    assert found == words


@settings(deadline=None)
@given(st.text("abc .é片", min_size=1, max_size=20))
def test_characters_come_back_as_they_were(text):
    encoder = make_encoder("character", CHARACTERS)
    normal = tf.strings.reduce_join(encoder.split(tf.constant([text])), axis=1).numpy()[0].decode()
    ids = encoder(tf.constant([text])).numpy()[0]
    if 1 not in ids:
        assert join(encoder, ids).decode() == normal.replace("␣", " ")


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=20))
def test_bytes_come_back_one_by_one(raw):
    assert join(make_encoder("byte"), [2 + byte for byte in raw]) == raw


def test_words_stand_as_in_a_text():
    words = ["a", "film", "(", "film", "-", "film", ")", ",", "片", "映", "。", "a"]
    encoder = make_encoder("word", WORDS)
    text = join(encoder, [2 + WORDS.index(word) for word in words]).decode()
    assert text == "a film (film-film),片映。a"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("don't", (True, True)),
        ("영", (True, True)),
        ("'", (False, True)),
        ("[", (True, False)),
        ("«", (True, False)),
        ("»", (False, True)),
        ("#", (True, False)),
        ("–", (False, False)),
        ("*", (True, True)),
        ("、", (False, False)),
    ],
)
def test_where_spaces_stand(token, expected):
    assert spaces_around(token) == expected


def test_tokens_that_overlap_are_refused():
    with pytest.raises(UsageError, match="--unit=bigram cannot be turned back into text"):
        Joiner(make_encoder("bigram", ("ab", "bc")))


def test_a_vocabulary_of_nothing_joins_nothing():
    assert Joiner(make_encoder("word"))(
        tf.zeros((1, 0), "int32"), tf.zeros((1, 0), "int32")
    ).shape == (1, 0)
