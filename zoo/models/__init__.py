"""Interchangeable classifiers: one name, one `build`, the same arguments and the same result.

    MODELS[name](inputs, num_classes, size=…, dropout_rate=…, word_dropout_rate=…,
                 recurrent_dropout_rate=…)

Args of every `build`:
    inputs: `TokenInputs` or `FeatureInputs`; the families in `WITHOUT_EMBEDDING` take the former.
    num_classes: C, at least 2.
    size: `"small"`, `"base"` or a name that the family has besides, single numbers and choices
        changed if need be: `"small,units=48,layer_norm=yes"`; those of a family stand in its
        `SIZES` and `CHOICES`.
    dropout_rate: share of the pooled values that is dropped in training; half as many of the
        embedding's channels are dropped, each for a whole sequence, and a quarter as many of what
        attention and a Transformer's network give.
    word_dropout_rate: share of the words that training makes unknown; 0 for features.
    recurrent_dropout_rate: share of the recurrent weights dropped in training, the same ones at
        every step of a batch (Merity et al. 2017); 0 for families without them.

Returns of every `build`:
    A functional `keras.Model` from `{"ids": int32[B, T]}`, or from `{"features": float32[B, T, D],
    "lengths": int32[B]}`, to `float32[B, C]` logits. Steps that are padding never change them; T
    is at least 1.

Raises of every `build`:
    ValueError: naming the argument, for a size that the family lacks, heads that cannot share a
        width, fewer than two classes, a rate outside [0, 1], word dropout on features, recurrent
        dropout where nothing recurs, or features for a family that takes none.

Example:
    >>> model = MODELS["bilstm"](TokenInputs(num_ids=50), num_classes=2, size="small")
    >>> model.output_shape
    (None, 2)
"""

from collections.abc import Callable

import keras

from zoo.models import bag, bilstm, lstm, lstm_attention, min_lstm, nb_ngram, transformer
from zoo.models.parts import FeatureInputs, Inputs, TokenInputs
from zoo.models.search import Space

MODELS: dict[str, Callable[..., keras.Model]] = {
    "bag": bag.build,
    "lstm": lstm.build,
    "bilstm": bilstm.build,
    "min_lstm": min_lstm.build,
    "lstm_attention": lstm_attention.build,
    "transformer": transformer.build,
    "nb_ngram": nb_ngram.build,
}
SIZES = ("small", "base")
# What `trainers/tune.py` tries of each.
SEARCH: dict[str, Space] = {
    "bag": bag.SEARCH,
    "lstm": lstm.SEARCH,
    "bilstm": bilstm.SEARCH,
    "min_lstm": min_lstm.SEARCH,
    "lstm_attention": lstm_attention.SEARCH,
    "transformer": transformer.SEARCH,
    "nb_ngram": nb_ngram.SEARCH,
}
# They count words: there is nothing to count in features, and no vector of a word.
WITHOUT_EMBEDDING = frozenset({"nb_ngram"})

__all__ = [
    "MODELS",
    "SEARCH",
    "SIZES",
    "WITHOUT_EMBEDDING",
    "FeatureInputs",
    "Inputs",
    "TokenInputs",
]
