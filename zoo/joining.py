"""Ids back to text, inside the graph: how tokens stand beside one another."""

import unicodedata

import tensorflow as tf

from zoo.errors import UsageError
from zoo.text import FIRST_WORD_ID, KINDS, TextEncoder

# Marks by their category in Unicode, and those whose category does not say.
_OPENING = frozenset("$#@")
_CLOSING = frozenset(".,!?;:%'")
_BETWEEN = frozenset("/_")


def spaces_around(token: str) -> tuple[bool, bool]:
    """Whether a space may stand before a token, and whether one may behind it.

    A closing mark stands at the word before it, an opening one at the word behind, a hyphen, a
    slash or a wide mark at both. What is left, as words and straight quotes, which open as well as
    close, is set off on either side.

    Example:
        >>> [spaces_around(token) for token in ("film", ",", "(", "-", '"')]
        [(True, True), (False, True), (True, False), (False, False), (True, True)]
    """
    category = unicodedata.category(token[0])
    if len(token) > 1 or category[0] in "LNM":
        return (True, True)
    if token in _BETWEEN or category == "Pd" or unicodedata.east_asian_width(token) in "WF":
        return (False, False)
    if token in _CLOSING or category in ("Pe", "Pf"):
        return (False, True)
    return (True, token not in _OPENING and category not in ("Ps", "Pi"))


class Joiner(tf.Module):
    """What each id adds to a text, behind the one before it.

    Args:
        encoder: what made the ids; of words, characters or bytes.

    Raises:
        UsageError: for another unit, of which there is no one text.

    Example:
        >>> from zoo.text import TextSettings
        >>> joiner = Joiner(TextEncoder(("a", "film", "!"), TextSettings()))
        >>> joiner(tf.constant([[0, 2, 3]]), tf.constant([[2, 3, 4]])).numpy().tolist()
        [[b'a', b' film', b'!']]
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        unit = encoder.settings.unit
        tokens: list[str | bytes] = list(encoder.vocabulary)
        spaces = [(False, False)] * len(tokens)
        if unit == "byte":
            tokens = [bytes([byte]) for byte in range(256)]
            spaces = [(False, False)] * len(tokens)
        elif unit == "character":
            tokens = [" " if token == "␣" else token for token in encoder.vocabulary]
        elif unit == "word":
            unspaced = tf.strings.regex_full_match(list(tokens) or [""], KINDS["unspaced"])
            # Chinese and Japanese have no spaces.
            spaces = [
                (False, False) if alone else spaces_around(token)
                for token, alone in zip(encoder.vocabulary, unspaced.numpy(), strict=False)
            ]
        else:
            raise UsageError(
                f"--unit={unit} cannot be turned back into text: its tokens overlap, and two that "
                "follow one another need not agree; pretrain with --unit=word, character or byte"
            )
        # Padding, which stands for a text's beginning, and an unknown word.
        before, behind = zip((False, False), (True, True), *spaces, strict=True)
        self._pieces = tf.constant([*[""] * FIRST_WORD_ID, *tokens])  # string[V]
        self._before, self._behind = tf.constant(before), tf.constant(behind)  # bool[V]

    def __call__(self, previous: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """What stands for `ids` behind `previous`, both `int32[...]`, as `string[...]`.

        The id 0 as the previous one says that a text begins. Bytes come one by one.
        """
        apart = tf.gather(self._behind, previous) & tf.gather(self._before, ids)
        return tf.where(apart, " ", "") + tf.gather(self._pieces, ids)
