"""What stands on a family's states to tell the words of a text: the other end of pretraining.

A family's states, what it pools over time, are asked for words: for one that was hidden, where
every state has read the whole text, or for the next one (and the one before), where a state has
read one side alone. Nothing else of a family changes, so that what is learnt here is what a
classifier of the same family and size can begin with.
"""

from typing import Any

import keras

from zoo.layers import MaskedPooling
from zoo.models import bilstm, lstm, parts, transformer


@keras.saving.register_keras_serializable(package="zoo")
class WordQueries(keras.layers.Layer):
    """From states to vectors that are held against every word's own vector.

        q = x W + b,    log p(word) = q . e(word) + a(word) - log Z

    The vectors e are the embedding's, which is not repeated (Press & Wolf 2017, "Using the Output
    Embedding to Improve Language Models"); a is how common a word is.

    Args:
        num_ids: V, the words that are told apart.
        dim: E, size of a word's vector.
        **kwargs: of `keras.layers.Layer`.

    Call: `float[B, T, D]` to `float[B, T, E]`.

    Example:
        >>> tuple(WordQueries(num_ids=11, dim=3)(keras.ops.ones((2, 5, 7))).shape)
        (2, 5, 3)
    """

    def __init__(self, num_ids: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_ids = parts.at_least("num_ids", num_ids, 2)
        self.dim = parts.at_least("dim", dim, 1)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes W, b and a."""
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.dim))
        self.bias = self.add_weight(name="bias", shape=(self.dim,), initializer="zeros")
        self.word_bias = self.add_weight(
            name="word_bias", shape=(self.num_ids,), initializer="zeros"
        )

    def call(self, inputs: Any) -> Any:
        """The queries."""
        return keras.ops.matmul(inputs, self.kernel) + self.bias  # float[B, T, E]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """`(B, T, E)`."""
        return (*input_shape[:-1], self.dim)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        return {**super().get_config(), "num_ids": self.num_ids, "dim": self.dim}


def words_unseen(name: str, size: str) -> tuple[str, ...]:
    """The words that the channels of a family's states, in equal shares, have not read.

    Args:
        name: of the family.
        size: its size, as `build` takes it.

    Returns:
        `("next",)` where a state has read what stands before it and itself; `("next",
        "previous")` where half of its channels have, and the others what stands behind; `()` where
        it has read everything.

    Raises:
        ValueError: as `build`, for a size that the family lacks.

    Example:
        >>> words_unseen("bilstm", "small"), words_unseen("bilstm", "small,num_layers=2")
        (('next', 'previous'), ())
    """
    match name:
        case "lstm":
            return ("next",)
        # A second layer reads what the first one has read from either side.
        case "bilstm" if parts.resolve_size(size, bilstm.SIZES, lstm.CHOICES)["num_layers"] == 1:
            return ("next", "previous")
        case "transformer":
            chosen = parts.resolve_size(size, transformer.SIZES, transformer.CHOICES)
            return ("next",) if chosen["attention"] == "causal" else ()
    return ()


def objective_words(name: str, size: str, objective: str) -> tuple[str, ...]:
    """What `build_predictor` is to ask a family for.

    Args:
        name: of the family.
        size: its size, as `build` takes it.
        objective: `"masked"`, words that are hidden, or `"causal"`, the next one.

    Raises:
        ValueError: where the family cannot learn so, saying what would work; or as `build`, for a
            size that it lacks.

    Example:
        >>> objective_words("bilstm", "small", "masked")
        ('hidden',)
    """
    if name in ("bag", "nb_ngram"):
        raise ValueError("it reads words without those around them; choose another model")
    unseen = words_unseen(name, size)
    if objective == "masked":
        if unseen == ("next",):
            raise ValueError("it reads forward alone; give --objective=causal")
        return ("hidden",)
    if not unseen:
        raise ValueError("each of its states has read the whole text; give --objective=masked")
    return unseen


def build_predictor(classifier: keras.Model, words: tuple[str, ...]) -> keras.Model:
    """A model that asks a classifier's states for words, and shares all below them with it.

    Args:
        classifier: of a family with an embedding.
        words: which ones, as many as there are shares of the channels: `("hidden",)`, `("next",)`
            or `("next", "previous")`.

    Returns:
        A model from `{"ids": int32[B, T]}` to one `float[B, T, E]` for each, in a list: the
        queries of a `WordQueries` layer named `"hidden"`, `"next"` or `"previous"`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> classifier = MODELS["bilstm"](TokenInputs(num_ids=50), num_classes=2)
        >>> [q.shape for q in build_predictor(classifier, ("next", "previous")).outputs]
        [(None, None, 200), (None, None, 200)]
    """
    pooling = next(layer for layer in classifier.layers if isinstance(layer, MaskedPooling))
    states = pooling.input
    states = states[0] if isinstance(states, list) else states  # float[B, T, D], without its mask
    num_ids, dim = classifier.get_layer("embedding").embeddings.shape
    channels = states.shape[-1] // len(words)
    queries = [
        WordQueries(num_ids, dim, name=word)(
            states[..., place * channels : (place + 1) * channels] if len(words) > 1 else states
        )
        for place, word in enumerate(words)
    ]
    return keras.Model(classifier.input, queries, name=f"{classifier.name}_words")
