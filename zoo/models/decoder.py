"""A causal model asked for the next word, step after step, each of which is computed once.

What a step needs of those before it is small: of attention, their keys and values (Vaswani et al.
2017 leave it to the reader; Shazeer 2019, "Fast Transformer Decoding", has it in equations); of an
LSTM, one hidden and one cell state.

    scores_t, state_t = step(word_t, state_(t-1)),    log p(word_(t+1)) = scores_t - log Z
"""

from typing import Any

import keras
from keras import ops

from zoo.layers import (
    LSTM,
    LearnedPositions,
    SinusoidalPositions,
    TransformerBlock,
    WordDropout,
)
from zoo.models.words import WordQueries

# What does nothing once a model is trained.
_IDLE = (keras.layers.InputLayer, keras.layers.SpatialDropout1D, WordDropout)


class Decoder:
    """The next word's scores, of a model that `zoo.models.words.build_predictor` made.

    It gives what the model gives of whole texts, and shares its weights.

    Args:
        predictor: of a family that reads forward alone, asked for `("next",)`.

    Raises:
        ValueError: for another model, naming the layer that cannot go step by step.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> from zoo.models.words import build_predictor
        >>> classifier = MODELS["lstm"](TokenInputs(num_ids=50), num_classes=2)
        >>> decoder = Decoder(build_predictor(classifier, ("next",)))
        >>> scores, state = decoder(ops.ones((2, 3), "int32"), decoder.init_state(2, 5), 0)
        >>> scores, state = decoder(ops.ones((2, 1), "int32"), state, 3)
        >>> tuple(scores.shape)
        (2, 50)
    """

    def __init__(self, predictor: keras.Model) -> None:
        layers = [layer for layer in predictor.layers if not isinstance(layer, _IDLE)]
        self._embedding, *self._between, self._queries = layers
        known = (
            LSTM,
            LearnedPositions,
            SinusoidalPositions,
            TransformerBlock,
            keras.layers.LayerNormalization,
        )
        for layer in self._between:
            if not isinstance(layer, known):
                raise ValueError(f"layer {layer.name!r} cannot go step by step")
        if not isinstance(self._queries, WordQueries) or self._queries.name != "next":
            raise ValueError(f"layer {self._queries.name!r} tells no next word")
        lengths = [
            layer.max_length for layer in self._between if isinstance(layer, LearnedPositions)
        ]
        self.max_length: int | None = min(lengths, default=None)
        self.num_ids: int = self._queries.num_ids

    def init_state(self, batch_size: Any, max_length: Any) -> list[Any]:
        """The state before the first step.

        Args:
            batch_size: B, an int, or a whole tensor that a graph of TensorFlow's alone knows.
            max_length: how many steps there will be at most, likewise.

        Returns:
            What each layer keeps, in their order: an `AttentionCache`, or an LSTM's two states.
        """
        return [
            layer.init_cache(batch_size, max_length)
            if isinstance(layer, TransformerBlock)
            else layer.cell.get_initial_state(batch_size)
            for layer in self._between
            if isinstance(layer, TransformerBlock | LSTM)
        ]

    def __call__(self, ids: Any, state: list[Any], index: Any) -> tuple[Any, list[Any]]:
        """Reads the next steps.

        Args:
            ids: `int32[B, T]`, of words that are all there: none is padding.
            state: what `init_state` made, or the last call returned.
            index: the place of the first of these steps; an int or a whole tensor of no axes.

        Returns:
            Of the word behind the last of these steps, `log p(word) + log Z`, `float[B, V]`, V
            words; and the state.
        """
        kept = iter(state)
        grown = []
        # Not the layer itself, which would have a mask follow it: no step here is padding.
        x = ops.take(self._embedding.embeddings, ids, axis=0)  # float[B, T, E]
        for layer in self._between:
            if isinstance(layer, TransformerBlock):
                x, more = layer(x, training=False, cache=next(kept), cache_index=index)
                grown.append(more)
            elif isinstance(layer, LSTM):
                x, more = _run_lstm(layer, x, next(kept))
                grown.append(more)
            elif isinstance(layer, LearnedPositions | SinusoidalPositions):
                x = layer(x, first=index)  # float[B, T, E]
            else:
                x = layer(x)  # float[B, T, E]
        queries = self._queries(x[:, -1])  # float[B, E]
        # Not a product with what is transposed, which would be copied at every step.
        scores = ops.einsum("be,ve->bv", queries, self._embedding.embeddings)  # float[B, V]
        return scores + self._queries.word_bias, grown


def _run_lstm(layer: LSTM, x: Any, state: list[Any]) -> tuple[Any, list[Any]]:
    """The outputs of an LSTM's next steps, `float[B, T, U]`, and its states after them."""
    if x.shape[1] == 1:  # a loop of one turn would take several times as long
        output, state = layer.cell(x[:, 0], state)
        return ops.expand_dims(output, 1), list(state)
    _, outputs, state = layer.inner_loop(x, list(state), mask=None)
    return outputs, list(state)
