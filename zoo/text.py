"""Strings to token ids and back, inside the graph: what trains is what serves.

A text passes four steps, each of them stock TensorFlow ops:

1. `Normaliser`: bytes that are not UTF-8 become U+FFFD; characters are folded one by one (lower
   case, full width to plain, ligatures to letters, accented letters to their base letter, combining
   accents and variation selectors dropped, curly quotes to straight ones); HTML line breaks become
   spaces; white space is collapsed.
2. `split`: into words, characters, pairs of characters or bytes.
3. truncation that keeps the head and the tail.
4. a look-up in a vocabulary learnt from the training split; what is not in it is unknown.

The folding is NFKC (Unicode Standard Annex 15) of each character by itself, in lower case and
without the combining marks U+0300 to U+036F, so that both spellings of an accented letter meet. It
is a table, made by Python and stored in every export: TensorFlow's own lower-casing heeds the
locale of the process, and would make another letter of "I" on a server that speaks Turkish.
"""

import functools
import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, unknown_name

PAD_ID = 0
UNKNOWN_ID = 1
FIRST_WORD_ID = 2

# What `TextEncoder` makes; word pieces are a pretrained model's, and have zoo/wordpiece.py.
UNITS = ("word", "character", "bigram", "byte")
WORDPIECE: Literal["wordpiece"] = "wordpiece"
Unit = Literal["word", "character", "bigram", "byte", "wordpiece"]

# Part of every cache's fingerprint: count it up whenever the same text would give other tokens.
RULES_VERSION = 2

_REPLACED = {"‘": "'", "’": "'", "‛": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"', "‟": '"'}
# One letter, whatever its place in a word; a soft hyphen and a byte order mark are no text.
_REPLACED |= {"ς": "σ", "\u00ad": "", "\ufeff": ""}
# Nor is what chooses between two pictures of a character; as a mark it would begin the next word.
_REPLACED |= dict.fromkeys(map(chr, range(0xFE00, 0xFE10)), "")
_ACCENTS = frozenset(chr(point) for point in range(0x300, 0x370))
_KEEP = "\x00"
# Scripts written without spaces, and their sign for a long vowel: each character is a word.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30fc}"
_WORD_CHARACTER = r"\p{L}\p{N}\p{M}"

# The kinds of characters that the rule tells apart, each as RE2 knows it.
KINDS = {
    "word": f"[{_WORD_CHARACTER}]",
    "unspaced": f"[{_UNSPACED}]",
    "space": r"[\s\p{Z}\p{Cc}]",
}


@dataclass(frozen=True)
class TextSettings:
    """How texts become ids.

    Args:
        unit: what a token is: `"word"`, `"character"`, `"bigram"` (of characters), `"byte"` or
            `"wordpiece"`.
        vocabulary_size: ids at most, padding and the unknown id included; not used for bytes and
            word pieces.
        max_length: tokens kept of a text.

    Raises:
        UsageError: naming the setting and what would work.
    """

    unit: Unit = "word"
    vocabulary_size: int = 20_000
    max_length: int = 256

    def __post_init__(self) -> None:
        if self.unit not in (*UNITS, WORDPIECE):
            raise unknown_name("unit", self.unit, (*UNITS, WORDPIECE))
        if self.vocabulary_size <= FIRST_WORD_ID:
            raise UsageError(
                f"vocabulary_size={self.vocabulary_size} leaves no room for a word: "
                f"at least {FIRST_WORD_ID + 1} (padding, unknown and one word)"
            )
        if self.max_length < 1:
            raise UsageError(f"max_length={self.max_length} keeps nothing of a text: at least 1")


def fold_character(character: str) -> str:
    """One character in lower case, without its accents, width and ligature.

    Example:
        >>> [fold_character(c) for c in "ÉＡﬁ’"]
        ['e', 'a', 'fi', "'"]
    """
    bare = (c for c in unicodedata.normalize("NFKD", character) if c not in _ACCENTS)
    folded = unicodedata.normalize("NFKC", "".join(bare)).lower()
    # A capital dotted I leaves its dot behind as an accent.
    return "".join(_REPLACED.get(c, c) for c in folded if c not in _ACCENTS)


@functools.cache
def foldings() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every character that folding changes, and what it becomes."""
    # Hangul syllables and everything beyond the compatibility ideographs fold to themselves.
    blocks = (range(0x80, 0xAC00), range(0xD7A4, 0xD800), range(0xE000, 0x20000))
    points = itertools.chain(*blocks, range(0x2F800, 0x2FA20))
    pairs = {character: fold_character(character) for character in map(chr, points)}
    changed = {old: new for old, new in pairs.items() if old != new}
    return tuple(changed), tuple(changed.values())


class Normaliser(tf.Module):
    """Step 1 of the module's text; a module because its folding table goes into SavedModels."""

    def __init__(self) -> None:
        super().__init__()
        old, new = foldings()
        self._folding = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(old), tf.constant(new)), _KEEP
        )

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Normalises `string[B]`; never fails, whatever the bytes.

        Example:
            >>> Normaliser()(tf.constant(["Café<br />NOIR  !"])).numpy()[0].decode()
            'cafe noir !'
        """
        # NUL ends a string here and there in what follows, and stands for nothing in a text.
        texts = tf.strings.regex_replace(texts, r"\x00", " ")
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        texts = tf.strings.lower(texts)  # without an encoding: A to Z alone
        # Row by row, for most English texts need none of it.
        plain = tf.strings.regex_full_match(texts, r"[\x01-\x7f]*")
        rows = tf.where(~plain)  # int64[rows, 1]
        folded = self._fold(tf.gather_nd(texts, rows))
        texts = tf.tensor_scatter_nd_update(texts, rows, folded)
        texts = tf.strings.regex_replace(texts, r"</?br(\s[^<>]*)?/?>", " ")
        return tf.strings.strip(tf.strings.regex_replace(texts, f"{KINDS['space']}+", " "))

    def _fold(self, texts: tf.Tensor) -> tf.Tensor:
        characters = tf.strings.unicode_split(texts, "UTF-8")
        folded = self._folding.lookup(characters.flat_values)
        kept = tf.where(folded == _KEEP, characters.flat_values, folded)
        return tf.strings.reduce_join(characters.with_flat_values(kept), axis=-1)


def split(texts: tf.Tensor, unit: Unit) -> tf.RaggedTensor:
    """Splits normalised texts into tokens.

    Words are runs of letters, digits and marks with the apostrophes inside them; every other
    character is a token of its own, and so is each Han, Hiragana and Katakana character. A space
    that is a character of its own is written `␣`: no token holds white space. Bigrams are each
    character with the one behind it, as many as there are characters, so that the last one stands
    alone; most words of Chinese are two characters.

    Args:
        texts: `string[B]`, normalised.
        unit: what a token is.

    Returns:
        `string[B, (tokens)]`, ragged.

    Example:
        >>> split(tf.constant(["don't stop!"]), "word").to_list()
        [[b"don't", b'stop', b'!']]
        >>> split(tf.constant(["oh!"]), "bigram").to_list()
        [[b'oh', b'h!', b'!']]
    """
    if unit == "byte":
        return tf.strings.bytes_split(texts)
    if unit in ("character", "bigram"):
        texts = tf.strings.regex_replace(texts, " ", "␣")
        characters = tf.strings.unicode_split(texts, "UTF-8")
        return _bigrams(characters) if unit == "bigram" else characters
    inner = rf"([{_WORD_CHARACTER}])'([{_WORD_CHARACTER}])"
    for _ in range(2):  # matches cannot overlap, and the letter between two apostrophes would
        texts = tf.strings.regex_replace(texts, inner, "\\1\x01\\2")
    apart = rf"([{_UNSPACED}]|[^{_WORD_CHARACTER}\x01\s])"
    texts = tf.strings.regex_replace(texts, apart, r" \1 ")
    return tf.strings.split(tf.strings.regex_replace(texts, "\x01", "'"))


def _bigrams(characters: tf.RaggedTensor) -> tf.RaggedTensor:
    """Each character with the one behind it in its row, `string[B, (T)]` as they are."""
    places = tf.ragged.range(characters.row_lengths()).flat_values
    lengths = tf.repeat(characters.row_lengths(), characters.row_lengths())
    behind = tf.roll(characters.flat_values, -1, axis=0)
    behind = tf.where(places + 1 < lengths, behind, "")
    return characters.with_flat_values(characters.flat_values + behind)


def learn_vocabulary(counts: Mapping[str, int], size: int) -> tuple[str, ...]:
    """The most frequent tokens, ties broken by the token itself, so that no order matters.

    Args:
        counts: how often each token occurs in the training split.
        size: ids at most, padding and the unknown id included.

    Returns:
        At most `size - 2` tokens; the token at place `i` has the id `i + 2`.

    Example:
        >>> learn_vocabulary({"b": 2, "a": 2, "c": 1}, size=4)
        ('a', 'b')
    """
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return tuple(ranked[: size - FIRST_WORD_ID])


class TextEncoder(tf.Module):
    """Raw strings to ids, with all that it takes inside: it is saved as part of a model.

    Args:
        vocabulary: tokens by id, the first one having the id 2; empty for bytes.
        settings: unit and truncation.

    Example:
        >>> encoder = TextEncoder(("good", "film"), TextSettings(max_length=3))
        >>> encoder(tf.constant(["Good film!", ""])).to_list()
        [[2, 3, 1], [1]]
        >>> encoder.words([2, 3, 1])
        ['good', 'film', '[unknown]']
    """

    unknown_id = UNKNOWN_ID

    def __init__(self, vocabulary: Sequence[str], settings: TextSettings) -> None:
        super().__init__()
        self._settings = settings
        self._vocabulary = tuple(vocabulary)
        self._normaliser = Normaliser()
        if settings.unit == "byte":
            self._names = tuple(f"<{byte:02x}>" for byte in range(256))
            keys: Sequence[str | bytes] = [bytes([byte]) for byte in range(256)]
        else:
            keys = self._names = self._vocabulary
        self.num_ids = FIRST_WORD_ID + len(keys)
        ids = range(FIRST_WORD_ID, self.num_ids)
        # A table must not be empty; no token is ever a line break.
        pairs = dict(zip(keys, ids, strict=True)) or {"\n": UNKNOWN_ID}
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(pairs)), tf.constant(list(pairs.values()), tf.int32)
            ),
            UNKNOWN_ID,
        )

    @property
    def settings(self) -> TextSettings:
        """Unit and truncation."""
        return self._settings

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The learnt tokens, by id from 2 on; empty for bytes."""
        return self._vocabulary

    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Normalises and splits `string[B]` into `string[B, (tokens)]`, all tokens kept."""
        return split(self._normaliser(texts), self._settings.unit)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Encodes `string[B]` as `int32[B, (T)]`, ragged, each row of 1 to `max_length` ids."""
        return self.look_up(truncate(self.split(texts), self._settings.max_length))

    def look_up(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """The ids, `int32[B, (T)]`, of `string[B, (T)]`; an empty row has the unknown one."""
        ids = tokens.with_flat_values(self._table.lookup(tokens.flat_values))
        # Recurrent layers fail in the graph at length 0, so that a text of nothing is one unknown.
        empty = tf.cast(ids.row_lengths() == 0, tf.int64)
        unknown = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(empty)], UNKNOWN_ID), empty
        )
        return tf.concat([ids, unknown], axis=1)

    def encode_dense(self, texts: tf.Tensor) -> tf.Tensor:
        """Encodes `string[B]` as `int32[B, T]` padded with zeros; `T` is at least 1 if `B` is 0."""
        return padded(self(texts))

    def words(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The tokens of one row of ids, padding left out."""
        names = ("[padding]", "[unknown]", *self._names)
        return [names[i] for i in ids if i != PAD_ID]


def padded(ids: tf.RaggedTensor) -> tf.Tensor:
    """Ids `int32[B, (T)]` as `int32[B, T]`, zeros behind each row; `T` is at least 1.

    Example:
        >>> padded(tf.ragged.constant([[2, 3], [4]])).numpy().tolist()
        [[2, 3], [4, 0]]
    """
    dense = ids.to_tensor(PAD_ID)
    return tf.pad(dense, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(dense)[1])]])


def truncate(tokens: tf.RaggedTensor, max_length: int) -> tf.RaggedTensor:
    """Keeps the first half and the last half of `max_length`, the head one longer if it is odd.

    Args:
        tokens: `[B, (T)]`, ragged.
        max_length: tokens kept of a row at most.

    Returns:
        `[B, (T)]`, ragged; a row that was short enough is as it was.

    Example:
        >>> truncate(tf.ragged.constant([[1, 2, 3, 4, 5], [6]]), 3).to_list()
        [[1, 2, 5], [6]]
    """
    tail = max_length // 2
    lengths = tf.repeat(tokens.row_lengths(), tokens.row_lengths())
    places = tf.ragged.range(tokens.row_lengths()).flat_values
    kept = (places < max_length - tail) | (places >= lengths - tail)
    return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(kept))
