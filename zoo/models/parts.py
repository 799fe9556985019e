"""What every model family begins and ends with: its inputs, its sizes and its head.

A family says only what lies between `embed` and `classify`; that is what makes the families
interchangeable, and a comparison of two of them a comparison of nothing else.
"""

import difflib
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from zoo.layers import LengthMask, MaskedPooling, Standardization, WordDropout
from zoo.layers.arguments import check_rate


def at_least(name: str, value: Any, lowest: int) -> int:
    """`value` as an `int`.

    Raises:
        ValueError: unless it is a whole number of at least `lowest`.

    Example:
        >>> at_least("num_classes", 1, 2)
        Traceback (most recent call last):
        ValueError: num_classes must be a whole number of at least 2, not 1
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or int(value) < lowest:
        raise ValueError(f"{name} must be a whole number of at least {lowest}, not {value!r}")
    return int(value)


@dataclass(frozen=True)
class TokenInputs:
    """Token ids, `int32[B, T]`, 0 being padding.

    Args:
        num_ids: size of the embedding table: words, the padding id and the unknown id.
        unknown_id: what word dropout puts in a word's place.

    Raises:
        ValueError: if `num_ids` has no room for padding and one more id.
    """

    num_ids: int
    unknown_id: int = 1

    def __post_init__(self) -> None:
        # Whole numbers of NumPy's are as good, but no JSON.
        object.__setattr__(self, "num_ids", at_least("num_ids", self.num_ids, 2))


@dataclass(frozen=True)
class FeatureInputs:
    """Tracks of features, `float32[B, T, D]`, with their lengths in steps, `int32[B]`.

    Args:
        num_features: D, the features of one step.

    Raises:
        ValueError: if `num_features` is not positive.
    """

    num_features: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_features", at_least("num_features", self.num_features, 1))


# Of the dropout rate, what applies to a residual branch: a norm follows, and makes other numbers of
# what dropout scales up in training than of what it leaves alone in serving. The attention's
# weights, where there is no such norm, would have to be kept in memory to drop them.
RESIDUAL_SHARE = 0.25

Inputs = TokenInputs | FeatureInputs
Sizes = Mapping[str, Mapping[str, Any]]
Choices = Mapping[str, tuple[str, ...]]


def resolve_size(size: str, sizes: Sizes, choices: Choices | None = None) -> dict[str, Any]:
    """The numbers and choices that a size stands for, single ones changed if so asked.

    Args:
        size: a name in `sizes`, then any number of `,number=value` and `,choice=word`.
        sizes: the family's named sizes, of numbers, and of words where a choice is not the usual
            one; a number that is 0 there is left out unless given.
        choices: the words that each choice of the family is between, the usual one first.

    Returns:
        The numbers, `int`, and the choices, `str`, by name.

    Raises:
        ValueError: if the size, a number or a word is not the family's, one is given twice, or a
            number is not positive.

    Example:
        >>> sizes = {"small": {"embedding_dim": 64, "units": 32}}
        >>> resolve_size("small,units=48,norm=post", sizes, {"norm": ("pre", "post")})
        {'embedding_dim': 64, 'units': 48, 'norm': 'post'}
    """
    name, *changes = str(size).split(",")
    if name not in sizes:
        near = difflib.get_close_matches(name, sizes, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"size {name!r} is unknown: {hint}it is one of {', '.join(sizes)}")
    choices = choices or {}
    usual = {key: words[0] for key, words in choices.items()}
    # The numbers first, as they are listed where a name is unknown.
    chosen: dict[str, Any] = {**sizes[name], **usual, **sizes[name]}
    given = set()
    for change in changes:
        key, _, value = change.partition("=")
        if key not in chosen:
            near = difflib.get_close_matches(key, chosen, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(chosen)}"
            raise ValueError(f"size {size!r}: this model has no number {key!r}: {hint}")
        if key in given:
            raise ValueError(f"size {size!r}: {key} is given twice")
        given.add(key)
        if key in choices:
            if value not in choices[key]:
                raise ValueError(
                    f"size {size!r}: {key} must be one of {', '.join(choices[key])}, not {value!r}"
                )
            chosen[key] = value
            continue
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"size {size!r}: {key} must be a whole number above 0, not {value!r}")
        chosen[key] = int(value)
    return chosen


def head_size(width: int, num_heads: int) -> int:
    """What each of `num_heads` attention heads gets of `width`.

    Raises:
        ValueError: if the heads cannot share the width evenly.

    Example:
        >>> head_size(64, 4)
        16
    """
    if width % num_heads:
        raise ValueError(
            f"a width of {width} cannot be shared by num_heads={num_heads}: "
            f"choose num_heads among {[n for n in range(1, 17) if width % n == 0]}"
        )
    return width // num_heads


def refuse_recurrent_dropout(rate: float) -> None:
    """For families in which no step's weights depend on the step before.

    Raises:
        ValueError: unless `rate` is 0.
    """
    check_rate("recurrent_dropout_rate", rate)
    if rate:
        raise ValueError(
            f"recurrent_dropout_rate={rate}: this model has no recurrent weights; use 0"
        )


def embed(
    inputs: Inputs, width: int, *, dropout_rate: float, word_dropout_rate: float
) -> tuple[dict[str, keras.KerasTensor], keras.KerasTensor]:
    """From a batch as the pipeline gives it to vectors that carry their mask.

    Args:
        inputs: what a batch holds.
        width: size of the vectors, E.
        dropout_rate: twice the share of the E channels dropped, the same ones at every step of a
            sequence; to lose a channel for all of a text is more than to lose a pooled value.
        word_dropout_rate: share of the words made unknown in training.

    Returns:
        The model's inputs by name, and `float[B, T, E]` with a Keras mask.

    Raises:
        ValueError: if a rate lies outside [0, 1], or words are to be dropped where there are none.
    """
    check_rate("dropout_rate", dropout_rate)
    check_rate("word_dropout_rate", word_dropout_rate)
    match inputs:
        case TokenInputs(num_ids, unknown_id):
            ids = keras.Input((None,), dtype="int32", name="ids")
            tensors = {"ids": ids}
            seen = WordDropout(word_dropout_rate, unknown_id, name="word_dropout")(ids)
            x = keras.layers.Embedding(num_ids, width, mask_zero=True, name="embedding")(seen)
        case FeatureInputs(num_features):
            if word_dropout_rate:
                raise ValueError(
                    f"word_dropout_rate={word_dropout_rate}: features have no words; use 0"
                )
            features = keras.Input((None, num_features), name="features")
            lengths = keras.Input((), dtype="int32", name="lengths")
            tensors = {"features": features, "lengths": lengths}
            standard = Standardization(name="standardization")(features)
            masked = LengthMask(name="mask")([standard, lengths])
            x = keras.layers.Dense(width, name="embedding")(masked)
        case _:
            raise ValueError(f"inputs must be TokenInputs or FeatureInputs, not {inputs!r}")
    return tensors, keras.layers.SpatialDropout1D(dropout_rate / 2, name="embedding_dropout")(x)


def classify(
    tensors: dict[str, keras.KerasTensor],
    x: keras.KerasTensor,
    num_classes: int,
    *,
    dropout_rate: float,
    pooling: tuple[str, ...] = ("mean", "max"),
    name: str,
) -> keras.Model:
    """From vectors that carry their mask to a model's logits.

    Args:
        tensors: the model's inputs by name.
        x: `float[B, T, E]` with a Keras mask.
        num_classes: C.
        dropout_rate: share of the pooled values dropped.
        pooling: the pooled views that stand side by side, modes of `MaskedPooling`.
        name: the model's name.

    Returns:
        A model from the inputs to `float32[B, C]` logits.

    Raises:
        ValueError: if there are fewer than two classes.
    """
    num_classes = at_least("num_classes", num_classes, 2)
    views = [MaskedPooling(mode, name=f"pool_{mode}")(x) for mode in pooling]
    pooled = keras.layers.Concatenate(name="pool")(views) if len(views) > 1 else views[0]
    pooled = keras.layers.Dropout(dropout_rate, name="pool_dropout")(pooled)
    # A softmax over logits of half precision would cost the calibration that we export.
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(pooled)
    return keras.Model(tensors, logits, name=name)
