"""Strings to ids: every rule, and any bytes at all against the same rules in plain Python."""

import collections
import random
import re
import unicodedata

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoo.errors import UsageError
from zoo.text import (
    UNITS,
    Normaliser,
    TextEncoder,
    TextSettings,
    fold_character,
    learn_vocabulary,
    split,
    truncate,
)

NORMALISER = Normaliser()
ENCODERS = {unit: TextEncoder((), TextSettings(unit)) for unit in UNITS}
SPLITTERS = {
    unit: tf.function(encoder.split, [tf.TensorSpec([None], tf.string)])
    for unit, encoder in ENCODERS.items()
}


def normalised(text):
    return NORMALISER(tf.constant([text])).numpy()[0].decode()


def tokens(text, unit="word"):
    return [token.decode() for token in SPLITTERS[unit](tf.constant([text])).to_list()[0]]


# The rules once more, in plain Python, from the module's description of them.

QUOTES = {"‘": "'", "’": "'", "‛": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"', "‟": '"'}
DROPPED = {"ς": "σ", "\u00ad": "", "\ufeff": ""}
DROPPED |= {chr(point): "" for point in range(0xFE00, 0xFE10)}


def is_accent(character):
    return "\u0300" <= character <= "\u036f"


def reference_fold(character):
    if character < "\x80":
        return character.lower()
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not is_accent(c))
    lower = unicodedata.normalize("NFKC", bare).lower()
    return "".join((QUOTES | DROPPED).get(c, c) for c in lower if not is_accent(c))


def is_blank(character):
    return unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc")


def reference_normalise(data):
    # As Unicode recommends it, one replacement for each ill-formed sequence.
    text = data.replace(b"\x00", b" ").decode("utf-8", errors="replace")
    text = "".join(map(reference_fold, text))
    text = re.sub(r"</?br([\t\n\f\r ][^<>]*)?/?>", " ", text)
    return " ".join("".join(" " if is_blank(c) else c for c in text).split(" ")).strip(" ")


def is_unspaced(character):
    name = unicodedata.name(character, "")
    han = "CJK UNIFIED" in name or "CJK COMPATIBILITY IDEOGRAPH" in name or character in "々〇〆"
    return han or name.startswith(("HIRAGANA LETTER", "KATAKANA LETTER")) or character == "ー"


def reference_words(text):
    """One pass, character by character; no pattern is shared with the code under test."""

    def inside(place):
        return 0 <= place < len(text) and unicodedata.category(text[place])[0] in "LNM"

    words, word = [], ""
    for place, character in enumerate(text):
        apostrophe = character == "'" and inside(place - 1) and inside(place + 1)
        # Characters that are words of their own take no apostrophe with them, but leave it whole.
        alone = is_unspaced(character) or not (inside(place) or apostrophe)
        if alone or character == " ":
            words += [word] if word else []
            word = ""
            words += [character] if character != " " else []
        else:
            word += character
    return words + ([word] if word else [])


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Good FILM", "good film"),
        (
            "one<br />two<BR>three<br/>four<br clear='all'>five</br>six",
            "one two three four five six",
        ),
        ("<brave> <b>x</b>", "<brave> <b>x</b>"),
        ("‘a’ “b” it’s", "'a' \"b\" it's"),
        (" \t a \r\n\u00a0\u3000 b \u2028", "a b"),
        ("ＦＵＬＬ ﬁlm № ①", "full film no 1"),
        ("Ünïcödé İstanbul ΣΊΣΥΦΟΣ", "unicode istanbul σισυφοσ"),
        ("so\u00adft\ufeff", "soft"),
        ("I ❤\ufe0flove ☎\ufe0e, 葛\ufe00", "i ❤love ☎, 葛"),
        ("a\x00b", "a b"),
        ("straße", "straße"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_normalising(raw, clean):
    assert normalised(raw) == clean


def test_both_spellings_of_an_accented_letter_meet():
    for text in ("café naïve Ångström", "한국어", "ガ", "Việt"):
        composed, decomposed = (normalised(unicodedata.normalize(f, text)) for f in ("NFC", "NFD"))
        if text in ("한국어", "ガ"):
            # Their parts are letters, not accents: stated as the known limit that it is.
            assert unicodedata.normalize("NFC", decomposed) == composed
        else:
            assert composed == decomposed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop", ["don't", "stop"]),
        ("rock'n'roll a'b'c'd", ["rock'n'roll", "a'b'c'd"]),
        ("'quoted' dogs' 'tis", ["'", "quoted", "'", "dogs", "'", "'", "tis"]),
        ("well-made, 8.5/10!!", ["well", "-", "made", ",", "8", ".", "5", "/", "10", "!", "!"]),
        ("映画です", ["映", "画", "で", "す"]),
        ("スター film", ["ス", "タ", "ー", "film"]),
        ("good👍🏽film", ["good", "👍", "🏽", "film"]),
        ("I ❤\ufe0flove it", ["i", "❤", "love", "it"]),
        ("snake_case a@b", ["snake", "_", "case", "a", "@", "b"]),
        ("हिन्दी", ["हिन्दी"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert tokens(text) == words


def test_characters_and_bytes():
    assert tokens("Aé 映", "character") == ["a", "e", "␣", "映"]
    assert tokens("Aé 映", "bigram") == ["ae", "e␣", "␣映", "映"]
    assert tokens("❤\ufe0fa", "character") == ["❤", "a"]
    assert tokens("❤\ufe0fa", "bigram") == ["❤a", "a"]
    rows = split(tf.constant(["", "ab", "", "c"]), "bigram").to_list()
    assert rows == [[], [b"ab", b"b"], [], [b"c"]]
    found = split(tf.constant(["é"]), "byte").to_list()[0]
    assert found == [b"\xc3", b"\xa9"]


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=40).map(lambda text: text.encode("utf-8")),
        st.text(alphabet="aB'’ <br/>é映ー\u0301\n\x00\x01\ufeff\ufe0f9!", max_size=40).map(
            str.encode
        ),
    )
)
@example(b"a'\xcc\x81b'c")
@example(b"\xe6\x98'\xff a'\x01'b")
@example("映'画'a".encode())
def test_any_bytes_become_what_the_rules_say(data):
    clean = re.sub(" +", " ", reference_normalise(data))
    assert normalised(data) == clean
    assert tokens(data) == reference_words(clean)
    written = clean.replace(" ", "␣")
    assert tokens(data, "character") == list(written)
    assert tokens(data, "bigram") == [written[i : i + 2] for i in range(len(written))]
    assert b"".join(SPLITTERS["byte"](tf.constant([data])).to_list()[0]).decode() == clean


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=30), max_size=6), st.sampled_from(["word", "byte"]))
def test_every_text_has_one_to_max_length_ids_alone_or_in_a_batch(batch, unit):
    encoder = TextEncoder(() if unit == "byte" else ("a", "the"), TextSettings(unit, 10, 5))
    ragged = encoder(tf.constant(batch, tf.string))
    assert ragged.dtype == tf.int32
    rows = ragged.to_list()
    assert len(rows) == len(batch)
    assert all(1 <= len(row) <= 5 for row in rows)
    assert all(0 < i < encoder.num_ids for row in rows for i in row)
    for text, row in zip(batch[:1], rows, strict=False):
        assert encoder(tf.constant([text])).to_list() == [row]


@pytest.mark.parametrize(
    ("length", "kept"), [(1, "a"), (2, "aj"), (3, "abj"), (4, "abij"), (10, "abcdefghij")]
)
def test_truncation_keeps_head_and_tail(length, kept):
    rows = truncate(tf.ragged.constant([list("abcdefghij"), list("ab")]), length).to_list()
    assert b"".join(rows[0]).decode() == kept
    assert b"".join(rows[1]).decode() == ("a" if length == 1 else "ab")


def test_the_fold_of_a_character_is_stable():
    """What is folded once stays as it is: an export and a second pass agree."""
    for point in [*range(0x80, 0x3000), *range(0xF900, 0x10000), *range(0x1D400, 0x1D800)]:
        once = fold_character(chr(point))
        assert "".join(map(fold_character, once)) == once, hex(point)


def test_the_folding_table_leaves_no_character_out():
    from zoo.text import foldings

    table = dict(zip(*foldings(), strict=True))
    for point in (*range(0x80, 0xD800), *range(0xE000, 0x110000, 7)):
        if 0xAC00 <= point <= 0xD7A3 and point % 50:  # a sample is enough of the Hangul syllables
            continue
        character = chr(point)
        assert table.get(character, character) == reference_fold(character), hex(point)


def test_the_vocabulary_does_not_depend_on_the_order():
    words = [f"w{number % 50}" for number in range(200)] + ["b", "a"] * 7
    learnt = set()
    for seed in range(5):
        random.Random(seed).shuffle(words)
        learnt.add(learn_vocabulary(collections.Counter(words), 20))
    (vocabulary,) = learnt
    assert vocabulary[:3] == ("a", "b", "w0")
    assert len(vocabulary) == 18
    assert learn_vocabulary({}, 5) == ()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"unit": "wort"}, "did you mean 'word'"),
        ({"vocabulary_size": 2}, "vocabulary_size=2"),
        ({"max_length": 0}, "max_length=0"),
    ],
)
def test_settings_that_cannot_work(wrong, says):
    with pytest.raises(UsageError, match=says):
        TextSettings(**wrong)


def test_ids_and_back():
    encoder = TextEncoder(("good", "film"), TextSettings(max_length=4))
    dense = encoder.encode_dense(tf.constant(["Good film!", "film"]))
    assert dense.numpy().tolist() == [[2, 3, 1], [3, 0, 0]]
    assert encoder.words(dense.numpy()[1]) == ["film"]
    assert encoder.words([1, 3]) == ["[unknown]", "film"]
    assert encoder.num_ids == 4
    assert encoder.vocabulary == ("good", "film")
    assert encoder.settings.max_length == 4


def test_bytes_have_no_unknown_and_no_vocabulary():
    encoder = TextEncoder((), TextSettings("byte", max_length=300))
    row = encoder(tf.constant([bytes(range(0x21, 0x7F))])).to_list()[0]
    assert encoder.num_ids == 258
    assert 1 not in row
    assert encoder.words([2, 2 + 0x41]) == ["<00>", "<41>"]


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_at_all(unit):
    encoder = TextEncoder(() if unit == "byte" else ("a",), TextSettings(unit))
    none = tf.zeros([0], tf.string)
    assert encoder.encode_dense(none).shape == (0, 1)
    assert encoder(none).to_list() == []
    assert encoder.encode_dense(tf.constant(["", " ", "\x00"])).numpy().tolist() == [[1]] * 3
    graph = tf.function(encoder.encode_dense, [tf.TensorSpec([None], tf.string)])
    assert graph(none).shape == (0, 1)


def test_a_million_characters():
    encoder = TextEncoder(("good", "end"), TextSettings(max_length=3))
    texts = ["good " * 200_000 + "end", "good" + "x" * 1_000_000 + " end", "é" * 1_000_000]
    assert encoder(tf.constant(texts)).to_list() == [[2, 2, 3], [1, 3], [1]]


ODD = ["Good film!", "", "\x00", b"\xff\xfe bad", "👍🏽 映画 Café", "it’s <br /> a 'x'"]


@pytest.mark.parametrize("unit", UNITS)
def test_eager_graph_and_saved_model_agree(unit, tmp_path):
    vocabulary = () if unit == "byte" else ("good", "film", "it's", "cafe", "g", "映", "é")
    encoder = TextEncoder(vocabulary, TextSettings(unit, max_length=9))
    texts = tf.constant(ODD)
    eager = encoder.encode_dense(texts).numpy().tolist()
    encoder.serve = tf.function(encoder.encode_dense, [tf.TensorSpec([None], tf.string)])
    assert encoder.serve(texts).numpy().tolist() == eager
    tf.saved_model.save(encoder, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert loaded.serve(texts).numpy().tolist() == eager
