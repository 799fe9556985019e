"""The model in Beam's `RunInference`.

Beam's own handlers for TensorFlow load a Keras model, and TensorFlow Hub with it; ours is a
SavedModel, whose signature takes strings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler

from zoo.errors import reason
from zoo.export import Loaded, load_servable
from zoo.scoring.rows import Aside, Row, aside

_loaded: dict[str, Loaded] = {}


def load_once(path: str) -> Loaded:
    """A model that this process may have loaded last; else as `load_servable`."""
    if path not in _loaded:
        found = load_servable(path)
        _loaded.clear()
        # A worker in this process asks for the version that its pipeline was built for.
        _loaded[path] = _loaded[str(found.path)] = found
    return _loaded[path]


def why_refused(error: Exception) -> str:
    """What TensorFlow says happened, without where, which it says first.

    Example:
        >>> said = "Graph execution error:\\n<stack traces unavailable>\\nno such word\\n\\t [[x]]"
        >>> why_refused(ValueError(said))
        'no such word'
    """
    return reason(ValueError(str(error).rpartition("<stack traces unavailable>")[2]))


@dataclass(frozen=True)
class Answer:
    """What the model says of a row.

    Args:
        row: the row.
        label: the most probable class.
        probabilities: of every class, in the model's order.
    """

    row: Row
    label: str
    probabilities: list[float]


Item = tuple[str, Row]


class SavedModelHandler(ModelHandler[Item, tuple[str, Answer | Aside], Loaded]):
    """Runs the signature `serving_default` of an exported model.

    It takes batches as they come, which hold rows of one file each, and forms smaller ones of rows
    of like length within: the numbers then depend on the file alone, and not on the runner.

    Args:
        path: a version's folder.
        batch_size: most rows that are scored together.
    """

    def __init__(self, path: str, batch_size: int) -> None:
        super().__init__()
        self._path = path
        self._batch_size = batch_size

    def should_skip_batching(self) -> bool:
        """What comes is a batch."""
        return True

    def load_model(self) -> Loaded:
        """Loads the SavedModel."""
        return load_once(self._path)

    def get_num_bytes(self, batch: Sequence[Item]) -> int:
        """The bytes of the texts."""
        return sum(len(row.text) for _, row in batch)

    def run_inference(
        self, batch: Sequence[Item], model: Loaded, inference_args: dict[str, Any] | None = None
    ) -> Iterable[tuple[str, Answer | Aside]]:
        """Scores rows.

        Args:
            batch: paths and rows.
            model: what `load_model` gave.
            inference_args: none are known.

        Returns:
            For each row its path, and the answer; in another order.
        """
        by_length = sorted(batch, key=lambda item: len(item[1].text))
        for start in range(0, len(batch), self._batch_size):
            yield from self._answers(by_length[start : start + self._batch_size], model)

    def _answers(
        self, items: Sequence[Item], model: Loaded
    ) -> Iterable[tuple[str, Answer | Aside]]:
        texts = tf.constant([row.text for _, row in items])
        try:
            found = model.module.signatures["serving_default"](text=texts)
        except tf.errors.OpError as error:
            if len(items) > 1:  # the others need not pay for one
                return [answer for item in items for answer in self._answers([item], model)]
            [(path, row)] = items
            why = f"refused by the model: {why_refused(error)}"
            return [(path, aside(row.position, why, row.text.encode()))]
        labels = [label.decode() for label in found["label"].numpy()]
        scores = found["probabilities"].numpy().tolist()
        return [
            (path, Answer(row, label, probabilities))
            for (path, row), label, probabilities in zip(items, labels, scores, strict=True)
        ]
