"""Strings to the word pieces of a pretrained BERT, inside the graph, with stock TensorFlow ops.

A text passes five steps:

1. characters that are no text (controls, formats, U+FFFD) are dropped, the others are folded one
   by one: decomposed (NFD), without nonspacing marks, in lower case.
2. white space, punctuation and CJK ideographs part the words.
3. a word that is in the vocabulary is one piece; of another one the longest piece that it begins
   with is cut off, then of the rest the longest that may continue a word (`##…`), and so on. A
   word that cannot be cut up so, or is longer than 100 characters, is unknown.
4. truncation.
5. `[CLS]` before the text and `[SEP]` behind it.

The names of the special tokens mean these tokens in a text, too, as in the libraries whose models
these are.

Source: Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding"; the pieces, Wu et al. 2016, "Google's Neural Machine Translation System".
"""

import functools
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.text import PAD_ID, WORDPIECE, TextEncoder, TextSettings, truncate

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"

_LONGEST_WORD = 100
_MISSING = -1
# Stands on both sides of a special token's name while the text is cut up.
_MARK = "\x02"
_KEEP = "\x00"
# Named, not classified: Unicode may add characters to a script, the vocabularies are as they were.
_CJK = (
    r"\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}"
    r"\x{2b740}-\x{2b81f}\x{2b920}-\x{2ceaf}\x{2f800}-\x{2fa1f}"
)
_PRIVATE = r"\x{e000}-\x{f8ff}\x{f0000}-\x{ffffd}\x{100000}-\x{10fffd}"


def fold_character(character: str) -> str:
    """What step 1 makes of one character beyond ASCII, spaces around what parts words.

    Example:
        >>> [fold_character(c) for c in "Éß…\\u200b\\u00a0≠"]
        ['e', 'ß', ' … ', '', ' ', ' = ']
    """
    if character.isspace() and unicodedata.category(character) != "Cc":
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf"):
        return ""
    bare = (c for c in unicodedata.normalize("NFD", character) if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _is_punctuation(c) else c.lower() for c in bare)


def _is_punctuation(character: str) -> bool:
    # ASCII's symbols count as punctuation, other symbols do not.
    return unicodedata.category(character).startswith("P") or character in "$+<=>^`|~"


@functools.cache
def _foldings() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every character beyond ASCII that folding changes, and what it becomes."""
    blocks = (range(0x80, 0xD800), range(0xF900, 0x20000), range(0x2F800, 0x2FA20))
    points = itertools.chain(*blocks, range(0xE0000, 0xE0200))
    pairs = {character: fold_character(character) for character in map(chr, points)}
    changed = {old: new for old, new in pairs.items() if old != new}
    return tuple(changed), tuple(changed.values())


def _table(keys: Sequence[str], values: Any, default: Any) -> tf.lookup.StaticHashTable:
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.constant(values))
    return tf.lookup.StaticHashTable(pairs, default)


class WordPieceEncoder(tf.Module):
    """Raw strings to ids of word pieces, with all that it takes inside.

    It takes the place of `zoo.text.TextEncoder`, and is saved as part of a model as that is.

    Args:
        vocabulary: pieces by id; those that continue a word begin with `##`.
        settings: of the unit `"wordpiece"`; its `vocabulary_size` is not used.
        keep_tail: whether of a text that is too long the head and the tail are kept, as in all
            runs, or the head alone, as the models' own libraries do it.

    Raises:
        UsageError: if the vocabulary lacks a special token, its `[PAD]` is not the first, a piece
            stands twice, or `max_length` has no room for a piece.

    Example:
        >>> pieces = (*SPECIAL, "film", "un", "##want", "##ed", "!")
        >>> encoder = WordPieceEncoder(pieces, TextSettings("wordpiece", max_length=8))
        >>> encoder(tf.constant(["Unwanted film!", ""])).to_list()
        [[2, 6, 7, 8, 5, 9, 3], [2, 3]]
        >>> encoder.words([2, 6, 7, 8, 3, 0])
        ['[CLS]', 'un', '##want', '##ed', '[SEP]']
    """

    def __init__(
        self, vocabulary: Sequence[str], settings: TextSettings, keep_tail: bool = True
    ) -> None:
        super().__init__()
        self._vocabulary = tuple(vocabulary)
        self._settings = settings
        self._keep_tail = keep_tail
        places = {piece: place for place, piece in enumerate(self._vocabulary)}
        for name in SPECIAL[:4]:
            if name not in places:
                raise UsageError(f"the vocabulary has no {name}")
        if places["[PAD]"] != PAD_ID:
            raise UsageError(f"the vocabulary has [PAD] at {places['[PAD]']}, not at {PAD_ID}")
        if len(places) < len(self._vocabulary):
            twice = next(p for n, p in enumerate(self._vocabulary) if places[p] != n)
            raise UsageError(f"the vocabulary has {twice!r} twice")
        if settings.max_length < 3:
            raise UsageError(
                f"max_length={settings.max_length} has no room for a piece between [CLS] and "
                "[SEP]: at least 3"
            )
        self.num_ids = len(self._vocabulary)
        self.unknown_id = places["[UNK]"]
        self._begin, self._end = places["[CLS]"], places["[SEP]"]
        bare = (piece.removeprefix(CONTINUES) for piece in self._vocabulary)
        self._longest_piece = max(map(len, bare))
        names = {n[1:-1]: places[n] for n in SPECIAL if n in places}
        self._special = rf"\[({'|'.join(names)})\]"
        marked = {f"{_MARK}{name.lower()}{_MARK}": place for name, place in names.items()}
        known = {piece: n for piece, n in places.items() if piece not in SPECIAL} | marked
        self._ids = _table(list(known), np.array(list(known.values()), "int32"), _MISSING)
        self._folding = _table(*_foldings(), _KEEP)

    @property
    def settings(self) -> TextSettings:
        """Unit and truncation."""
        return self._settings

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The pieces by id, from 0 on."""
        return self._vocabulary

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Encodes `string[B]` as `int32[B, (T)]`, ragged, each row of 2 to `max_length` ids."""
        room = self._settings.max_length - 2
        pieces = self.pieces(texts)
        pieces = truncate(pieces, room) if self._keep_tail else pieces[:, :room]
        sides = tf.fill([pieces.nrows(), 1], 1)
        return tf.concat([sides * self._begin, pieces, sides * self._end], axis=1)

    def encode_dense(self, texts: tf.Tensor) -> tf.Tensor:
        """Encodes `string[B]` as `int32[B, T]` padded with zeros; `T` is at least 1 if `B` is 0."""
        ids = self(texts).to_tensor(PAD_ID)
        return tf.pad(ids, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(ids)[1])]])

    def words(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The pieces of one row of ids, padding behind it left out."""
        return [self._vocabulary[i] for i in np.trim_zeros(np.asarray(ids), "b")]

    def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """All of `string[B]` as `int32[B, (T)]`, ragged, without `[CLS]` and `[SEP]`."""
        words = tf.strings.split(self._clean(texts))  # string[B, (W)]
        # Most words are common ones, and each needs to be cut up once.
        different, places = tf.unique(words.flat_values)
        pieces = tf.gather(self._cut_up(different), places)  # int32[words, (pieces)]
        return words.with_flat_values(pieces).merge_dims(1, 2)  # int32[B, (T)]

    def _clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Steps 1 and 2 of the module's text: words, with white space between them."""
        # NUL ends a string here and there in what follows; what is a mark below must be one.
        texts = tf.strings.regex_replace(texts, r"[\x00\x02]", "\x01")
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        texts = tf.strings.regex_replace(texts, self._special, rf" {_MARK}\1{_MARK} ")
        texts = tf.strings.lower(texts)  # without an encoding: A to Z alone
        # Row by row, for most English texts need none of it.
        plain = tf.strings.regex_full_match(texts, r"[\x01-\x7f]*")
        rows = tf.where(~plain)  # int64[rows, 1]
        folded = self._fold(tf.gather_nd(texts, rows))
        texts = tf.tensor_scatter_nd_update(texts, rows, folded)
        texts = tf.strings.regex_replace(texts, r"[\x01\x03-\x08\x0b\x0c\x0e-\x1f\x7f]", "")
        return tf.strings.regex_replace(texts, r"([!-/:-@\[-`{-~])", r" \1 ")

    def _fold(self, texts: tf.Tensor) -> tf.Tensor:
        texts = tf.strings.regex_replace(texts, f"[{_PRIVATE}]", "")
        texts = tf.strings.regex_replace(texts, f"([{_CJK}])", r" \1 ")
        characters = tf.strings.unicode_split(texts, "UTF-8")
        folded = self._folding.lookup(characters.flat_values)
        kept = tf.where(folded == _KEEP, characters.flat_values, folded)
        return tf.strings.reduce_join(characters.with_flat_values(kept), axis=-1)

    def _cut_up(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Step 3 of the module's text for `string[W]`, as `int32[W, (pieces)]`, ragged.

        Each turn cuts one piece off every word that has something left.
        """
        number = tf.size(words, tf.int64)
        whole = self._ids.lookup(words)  # int32[W]
        short = tf.strings.length(words, unit="UTF8_CHAR") <= _LONGEST_WORD
        found = (whole != _MISSING) | ~short
        rows, left = tf.where(found)[:, 0], tf.where(~found)[:, 0]  # int64[...]
        ids = tf.gather(whole, rows)
        _, _, rows, ids = tf.while_loop(
            lambda places, *_: tf.size(places) > 0,
            self._cut_off,
            (left, tf.gather(words, left), rows, ids),
            shape_invariants=tuple(tf.TensorShape([None]) for _ in range(4)),
        )
        # A word with a part that is no piece is unknown, its first parts with it.
        unknown = tf.math.unsorted_segment_min(ids, rows, number) == _MISSING  # bool[W]
        failed = tf.where(unknown)[:, 0]
        good = ~tf.gather(unknown, rows)
        rows = tf.concat([tf.boolean_mask(rows, good), failed], axis=0)
        ids = tf.concat(
            [tf.boolean_mask(ids, good), tf.fill(tf.shape(failed), self.unknown_id)], axis=0
        )
        # Stable: the pieces of a word stay in the order in which they were cut off.
        order = tf.argsort(rows, stable=True)
        return tf.RaggedTensor.from_value_rowids(
            tf.gather(ids, order), tf.gather(rows, order), nrows=number, validate=False
        )

    def _cut_off(
        self, places: tf.Tensor, left: tf.Tensor, rows: tf.Tensor, ids: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """One turn: what is `left` of the words at `places`, and the pieces found so far."""
        continues = tf.strings.regex_full_match(left, f"{CONTINUES}.+")  # bool[P]
        prefix = tf.where(continues, len(CONTINUES), 0)  # int32[P]
        sizes = tf.range(self._longest_piece, 0, -1) + prefix[:, None]  # int32[P, L]
        starts = tf.strings.substr(
            left[:, None], tf.zeros_like(sizes), sizes, unit="UTF8_CHAR"
        )  # string[P, L]
        known = self._ids.lookup(starts)  # int32[P, L]
        longest = tf.argmax(known != _MISSING, axis=1, output_type=tf.int32)  # int32[P]
        piece = tf.gather(known, longest, batch_dims=1)  # int32[P]
        size = tf.gather(sizes, longest, batch_dims=1)
        length = tf.strings.length(left, unit="UTF8_CHAR")
        more = (piece != _MISSING) & (size < length)
        rest = tf.strings.substr(
            tf.boolean_mask(left, more),
            tf.boolean_mask(size, more),
            tf.boolean_mask(length, more),
            unit="UTF8_CHAR",
        )
        return (
            tf.boolean_mask(places, more),
            CONTINUES + rest,
            tf.concat([rows, places], axis=0),
            tf.concat([ids, piece], axis=0),
        )


def make_encoder(
    vocabulary: Sequence[str], settings: TextSettings
) -> TextEncoder | WordPieceEncoder:
    """The encoder for a unit.

    Args:
        vocabulary: tokens by id, as the unit's encoder takes them.
        settings: unit and truncation.

    Raises:
        UsageError: as `WordPieceEncoder`.

    Example:
        >>> make_encoder(("good", "film"), TextSettings()).num_ids
        4
    """
    if settings.unit == WORDPIECE:
        return WordPieceEncoder(vocabulary, settings)
    return TextEncoder(vocabulary, settings)
