"""Twins that learn to tell words, of text alone: masked-word and language modelling.

    masked   some words of a text are hidden, and told by all the others (Devlin et al. 2019)
    causal   each word is told by those before it; where half of the channels have read from the
             end, also by those behind it (Bengio et al. 2003; both ways: Peters et al. 2018)

The loss is `-log p(word)`, with

    p(word) = exp(s(word)) / sum_v exp(s(v)),    s(word) = q . e(word) + a(word)

of `zoo.models.words.WordQueries`. In training, the sum over all words is estimated by one over a
sample of them, drawn as common words are common (Jean et al. 2015, "On Using Very Large Target
Vocabulary for Neural Machine Translation"); figures are of the whole sum.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.batching import batches, in_order_plan
from zoo.distribution import Team
from zoo.errors import Diverged, UsageError
from zoo.models import MODELS, TokenInputs
from zoo.models.words import build_predictor, objective_words
from zoo.splits import Split
from zoo.text import FIRST_WORD_ID, UNKNOWN_ID
from zoo.twins import Twins, input_signature

# Of the words asked for, those left in sight in training: what serves hides none.
_LEFT_RATE = 0.1
_EVALUATED_WORDS = 20_000
_EVALUATION_TOKENS = 4_096


class WordLearner(Twins):
    """Twins that learn to tell words.

    Args:
        config: a `zoo.pretraining.PretrainingConfig`.
        inputs: how many ids there are.
        total_steps: the length of the learning rate's schedule.
        team: the replicas that share each step; `None` for this device alone.

    Raises:
        UsageError: if the model refuses its arguments, or cannot learn by that objective.
    """

    def __init__(
        self, config: Any, inputs: TokenInputs, total_steps: int, team: Team | None = None
    ) -> None:
        self._words = objective_words(config.model, config.size, config.objective)
        self._num_ids = inputs.num_ids
        team = team or Team()
        with team.scope():
            self._random = keras.random.SeedGenerator(config.seed)
        super().__init__(config, inputs, total_steps, team)
        signature = [input_signature(self.model), tf.TensorSpec([2], "int32")]
        self._judge = tf.function(self._judged, signature, autograph=False)

    def _build(self, inputs: Any) -> keras.Model:
        classifier = MODELS[self._config.model](
            inputs,
            2,
            size=self._config.size,
            dropout_rate=self._config.dropout_rate,
            recurrent_dropout_rate=self._config.recurrent_dropout_rate,
        )
        return build_predictor(classifier, self._words)

    @property
    def variables(self) -> dict[str, list[tf.Variable]]:
        """All that a step reads and changes, random states included."""
        return {**super().variables, "random": [self._random.state.value]}

    def _loss(
        self, inputs: dict[str, tf.Tensor], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        del labels
        ids = inputs["ids"]
        chance = keras.random.uniform(tf.shape(ids), seed=self._random)
        losses, right, counts = [], [], []
        for queries, words, layer in self._asked(self.model, ids, chance, training=True):
            loss, correct = self._sampled_loss(queries, words, layer)
            losses.append(tf.reduce_sum(loss))
            right.append(tf.math.count_nonzero(correct))
            counts.append(tf.size(words))
        count = tf.add_n(counts)
        # A batch of one-word texts may hold nothing to tell.
        mean = tf.add_n(losses) / tf.cast(tf.maximum(count, 1), "float32")
        return mean, tf.add_n(right), count

    def _asked(
        self, model: keras.Model, ids: tf.Tensor, chance: tf.Tensor, training: bool
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor, Any]]:
        """Queries `float[N, E]`, the words `int32[N]` that they ask for, and the layer they are of.

        `chance`, `float[B, T]` in [0, 1), decides which words are hidden.
        """
        known = ids >= FIRST_WORD_ID
        if self._words == ("hidden",):
            rate = self._config.mask_rate
            asked = known & (chance < rate)
            # What is in sight is copied, which would be no telling.
            left = rate * _LEFT_RATE if training else 0.0
            seen = tf.where(asked & (chance >= left), UNKNOWN_ID, ids)
            (queries,) = _as_list(model({"ids": seen}, training=training))
            yield (
                tf.boolean_mask(queries, asked),
                tf.boolean_mask(ids, asked),
                model.get_layer("hidden"),
            )
            return
        present = ids > 0
        both = present[:, :-1] & present[:, 1:]
        all_queries = _as_list(model({"ids": ids}, training=training))
        for word, queries in zip(self._words, all_queries, strict=True):
            # The state of one step, and the word of its neighbour.
            state, told = (slice(None, -1), slice(1, None))[:: 1 if word == "next" else -1]
            asked = both & known[:, told]
            yield (
                tf.boolean_mask(queries[:, state], asked),
                tf.boolean_mask(ids[:, told], asked),
                model.get_layer(word),
            )

    def _sampled_loss(
        self, queries: tf.Tensor, words: tf.Tensor, layer: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`-log p(word)`, `float32[N]`, its sum over words estimated; and whether it came first."""
        table = self.model.get_layer("embedding").embeddings.value
        number, most = self._config.sampled_words, math.log(self._num_ids + 1)
        # The smaller an id, the more common its word: p(id) = log((id + 2) / (id + 1)) / most.
        drawn = tf.exp(keras.random.uniform((number,), seed=self._random) * most) - 1
        sample = tf.minimum(tf.cast(drawn, "int32"), self._num_ids - 1)  # int32[S]

        # How often each is expected in the sample.
        log_expected = tf.math.log(
            tf.math.log1p(1 / (tf.cast(sample, "float32") + 1)) * (number / most)
        )  # float32[S]
        dtype = queries.dtype
        own, others = (tf.cast(tf.gather(table, ids), dtype) for ids in (words, sample))
        bias = layer.word_bias.value
        right = tf.cast(tf.reduce_sum(queries * own, axis=-1), "float32")  # float32[N]
        right += tf.gather(bias, words)
        scores = tf.cast(tf.matmul(queries, others, transpose_b=True), "float32")  # float32[N, S]
        # Of the sum, a word's own part is known; each other one stands for those not drawn.
        scores += tf.gather(bias, sample) - log_expected
        scores = tf.where(words[:, None] == sample[None], -1e9, scores)
        total = tf.reduce_logsumexp(tf.concat([right[:, None], scores], axis=1), axis=1)
        return total - right, right > tf.reduce_max(scores + log_expected, axis=1)

    def _judged(
        self, inputs: dict[str, tf.Tensor], seed: tf.Tensor
    ) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Of the average: words, `-log p(word)`, and whether the word came first, each `[N]`."""
        table = self.averaged.get_layer("embedding").embeddings.value
        chance = tf.random.stateless_uniform(tf.shape(inputs["ids"]), seed)
        judged = []
        asked = self._asked(self.averaged, inputs["ids"], chance, training=False)
        for queries, words, layer in asked:
            scores = tf.matmul(queries, table, transpose_b=True) + layer.word_bias  # float32[N, V]
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(words, scores)
            judged.append((words, loss, tf.argmax(scores, axis=1, output_type="int32") == words))
        return judged

    def evaluate(
        self, split: Split, characters: np.ndarray, after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """How well the average tells the words of a split, or of evenly chosen rows of a large one.

        Args:
            split: the texts.
            characters: `int[V]`, of each word, and of what stands between it and the next one.
            after_batch: called after every batch.

        Returns:
            `words`, how many were told; `log_loss`, the mean of `-log p(word)` in nats;
            `perplexity`, its exponential; `bits_per_character`; and `accuracy`, the share of words
            that came first.

        Raises:
            Diverged: if a figure is not a finite number.
        """
        share = self._config.mask_rate if self._words == ("hidden",) else len(self._words)
        step = max(1, round(len(split.values) * share / _EVALUATED_WORDS))
        rows = np.arange(0, len(split), step)
        plan = [
            rows[batch]
            for batch in in_order_plan(split.lengths[rows], batch_tokens=_EVALUATION_TOKENS)
        ]
        words, losses, right = [], [], []
        for number, (inputs, _) in enumerate(batches(split, plan)):
            for told, loss, correct in self._judge(inputs, tf.constant([0, number])):
                words.append(told.numpy())
                losses.append(loss.numpy())
                right.append(correct.numpy())
            after_batch()
        told, loss = np.concatenate(words), np.concatenate(losses).astype("float64")
        if not len(told):
            raise UsageError("there is no word to tell in the validation text: give more of it")
        if not np.isfinite(loss).all():
            raise Diverged("the model's answers on validation are not finite numbers")
        mean = float(loss.mean())
        return {
            "words": len(told),
            "log_loss": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "bits_per_character": float(loss.sum() / math.log(2) / max(1, characters[told].sum())),
            "accuracy": float(np.concatenate(right).mean()),
        }


def _as_list(outputs: Any) -> Iterable[tf.Tensor]:
    return outputs if isinstance(outputs, list | tuple) else [outputs]
