"""What the presence of a feature says of a class: counted first, then learnt on top."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.arguments import check_above, check_positive, check_rate


@keras.saving.register_keras_serializable(package="zoo")
class LogCountRatios(keras.layers.Layer):
    """Naive Bayes on the presence of features, and what gradients make of it.

        logits_c = gain / sqrt(n) * sum_g ratios[g, c] kernel[g, c] + bias_c,  g a row's n features
        ratios[g, c] = sqrt(rows with g / rows) r[g, c]
        r[g, c] = log (p[g, c] / |p_c|) - log (q[g, c] / |q_c|)
        p[g, c] = alpha + rows of class c with g,  q[g, c] = alpha + rows of other classes with g

    `|.|` sums over the features that occur in any row; r is 0 for others. The ratios are counted
    by `adapt_to_labels`, once and before training; until then they are 1, which leaves a linear
    model. `add_weights_of` adds what another task taught. `kernel` begins at 1 / gain: as naive
    Bayes, in which a rare feature, whose ratio is of one or two rows, counts for less.

    The square root is for the sake of Adam as well: it moves what is rare nearly as far as what is
    frequent, where plain gradients would go by how often a feature occurs. So is the gain, which
    lets a learning rate do that other layers like.

    Source: Wang & Manning 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic
    Classification".

    Args:
        num_features: numbers of features that there are, 0, which is none, among them.
        num_classes: C.
        alpha: occurrences that each feature has in advance, in every class.
        gain: of the weights; the larger, the further a step moves the logits.
        dropout: share of the features dropped in training.
        seed: of the choice.

    Call arguments:
        inputs: `int[B, G]`, the features of each row, 0 being none.
        training: whether to drop.

    Returns:
        `float[B, C]`.

    Raises:
        ValueError: if a number is not positive, or `dropout` lies outside [0, 1].

    Example:
        >>> layer = LogCountRatios(4, 2)
        >>> features = np.array([[1, 0], [1, 2], [3, 0]], "int32")
        >>> layer.adapt_to_labels([(features, np.array([0, 0, 1]))])
        >>> logits = ops.convert_to_numpy(layer(features))
        >>> [round(float(logit), 3) for logit in logits[:, 0]]
        [0.566, 0.518, -0.634]
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        alpha: float = 1.0,
        gain: float = 400.0,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive("num_features", num_features)
        check_positive("num_classes", num_classes)
        check_above("alpha", alpha, 0)
        check_above("gain", gain, 0)
        check_rate("dropout", dropout)
        super().__init__(**kwargs)
        self.num_features = int(num_features)
        self.num_classes = int(num_classes)
        self.alpha = alpha
        self.gain = gain
        self.dropout = dropout
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the ratios and the weights."""
        shape = (self.num_features, self.num_classes)
        self.ratios = self.add_weight(
            shape=shape, name="ratios", initializer="ones", trainable=False
        )
        self.kernel = self.add_weight(
            shape=shape, name="kernel", initializer=keras.initializers.Constant(1 / self.gain)
        )
        self.bias = self.add_weight(shape=(self.num_classes,), name="bias", initializer="zeros")

    def adapt_to_labels(self, batches: Iterable[tuple[Any, Any]]) -> None:
        """Counts the ratios.

        Args:
            batches: all rows that there are to learn from: `int[B, G]`, in which no row has a
                feature twice, and labels `int[B]`.
        """
        if not self.built:
            self.build((None, None))
        counts, rows = np.zeros((self.num_features, self.num_classes), "int32"), 0
        for features, labels in batches:
            features = ops.convert_to_numpy(features)
            labels = np.broadcast_to(ops.convert_to_numpy(labels)[:, None], features.shape)
            np.add.at(counts, (features, labels), 1)
            rows += len(features)
        counts[0] = 0
        shares = counts.sum(axis=1, keepdims=True) / max(rows, 1)  # float[F, 1]
        self.ratios.assign(np.sqrt(shares) * _log_ratios(counts, self.alpha))

    def add_weights_of(self, known: "LogCountRatios", places: np.ndarray) -> None:
        """Lets what another task taught count as much as what this one's rows say.

        ratios[places[g]] += s w[g],   w[g] = known.ratios[g] known.kernel[g]
        s = rms(ratios) / rms(w), each over what is not 0

        so that the logits begin as a sum of naive Bayes here and of the other model there.

        Args:
            known: a layer of as many classes, trained.
            places: `int[known.num_features]`, the number that each of its features has here.

        Raises:
            ValueError: if it has other classes.
        """
        if known.num_classes != self.num_classes:
            raise ValueError(
                f"a layer of {known.num_classes} classes says nothing of {self.num_classes}"
            )
        ratios = np.array(ops.convert_to_numpy(self.ratios))
        weights = ops.convert_to_numpy(known.ratios) * ops.convert_to_numpy(known.kernel)
        here, there = (
            np.sqrt(np.mean(x[x != 0] ** 2)) if x.any() else 0 for x in (ratios, weights)
        )
        if here and there:
            np.add.at(ratios, places, here / there * weights)
        self.ratios.assign(ratios)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Adds up the features of each row."""
        present = ops.expand_dims(inputs > 0, -1)  # bool[B, G, 1]
        # Summed in float32 at least: half precision would lose the smaller of hundreds of terms.
        precise = keras.backend.result_type(self.compute_dtype, "float32")
        shares = ops.cast(present, precise)  # float[B, G, 1]
        # As if each row were a vector of length one: a long text is no surer than a short one.
        norm = self.gain / ops.sqrt(ops.maximum(ops.sum(shares, axis=1), 1.0))  # float[B, 1]
        if training and self.dropout:
            shares = keras.random.dropout(shares, self.dropout, seed=self.seed_generator)
        ratios = ops.cast(ops.take(self.ratios, inputs, axis=0), precise)  # float[B, G, C]
        weights = ops.cast(ops.take(self.kernel, inputs, axis=0), precise)  # float[B, G, C]
        logits = norm * ops.sum(shares * ratios * weights, axis=1)  # float[B, C]
        return ops.cast(logits + ops.cast(self.bias, precise), self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """A number a class."""
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        own = {
            "num_features": self.num_features,
            "num_classes": self.num_classes,
            "alpha": self.alpha,
            "gain": self.gain,
            "dropout": self.dropout,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


def _log_ratios(counts: np.ndarray, alpha: float) -> np.ndarray:
    """r of `int[F, C]` rows by feature and class, `float[F, C]`."""
    totals = counts.sum(axis=1, keepdims=True)  # int[F, 1]
    seen = totals > 0
    inside, outside = counts + alpha, totals - counts + alpha  # float[F, C]
    if not seen.any():
        return np.zeros_like(inside)
    ratios = np.log(inside / inside.sum(axis=0, where=seen))
    ratios -= np.log(outside / outside.sum(axis=0, where=seen))
    return np.where(seen, ratios, 0.0)
