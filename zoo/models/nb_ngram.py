"""Word n-grams weighted by their log-count ratios: the classical baseline of text classification.

Source: Wang & Manning 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic
Classification"; a logistic regression in the place of their support vector machine.
"""

import keras

from zoo.layers import HashedNgrams, LogCountRatios, WordDropout
from zoo.layers.arguments import check_rate
from zoo.models import parts
from zoo.models.search import Choice, Range, Space

SIZES = {
    "small": {"max_ngram": 2, "num_buckets": 2**19},
    "base": {"max_ngram": 3, "num_buckets": 2**21},
}
# Rows that every n-gram has in advance, in each class. Of n-grams of characters most are rare and
# yet parts of telling words, so that little in advance is better; of words, one.
CHOICES = {"alpha": ("1", "0.3", "0.1", "0.03", "0.01")}
SEARCH: Space = {
    "learning_rate": Range(3e-4, 1e-2, log=True),
    "dropout_rate": Range(0.0, 0.4),
    "weight_decay": Range(1e-3, 0.3, log=True),
    "size.max_ngram": Choice((2, 3)),
    "size.alpha": Choice(CHOICES["alpha"]),
    "batch_tokens": Choice((1000, 2000, 4000, 8000, 16000, 32000)),
}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
    recurrent_dropout_rate: float = 0.0,
) -> keras.Model:
    """One weight an n-gram and class, on ratios counted beforehand; see `zoo.models`.

    `dropout_rate` is the share of the n-grams dropped. There are no features to count:
    `FeatureInputs` are a `ValueError`.
    """
    parts.refuse_recurrent_dropout(recurrent_dropout_rate)
    chosen = parts.resolve_size(size, SIZES, CHOICES)
    num_classes = parts.at_least("num_classes", num_classes, 2)
    check_rate("dropout_rate", dropout_rate)
    check_rate("word_dropout_rate", word_dropout_rate)
    if isinstance(inputs, parts.FeatureInputs):
        raise ValueError(f"inputs={inputs!r}: features have no words, of which n-grams are made")
    if not isinstance(inputs, parts.TokenInputs):
        raise ValueError(f"inputs must be TokenInputs or FeatureInputs, not {inputs!r}")
    ids = keras.Input((None,), dtype="int32", name="ids")
    seen = WordDropout(word_dropout_rate, name="word_dropout")(ids)
    ngrams = HashedNgrams(
        inputs.num_ids, chosen["max_ngram"], chosen["num_buckets"], name="ngrams"
    )(seen)
    # As in `parts.classify`: a softmax over logits of half precision would cost the calibration.
    logits = LogCountRatios(
        inputs.num_ids + chosen["num_buckets"],
        num_classes,
        alpha=float(chosen["alpha"]),
        dropout=dropout_rate,
        dtype="float32",
        name="logits",
    )(ngrams)
    return keras.Model({"ids": ids}, logits, name="nb_ngram")
