"""A causal language model to a SavedModel that writes behind a prompt."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.export import publish, write_card
from zoo.generation import Generator
from zoo.pretraining import Pretrained

# What a server is warmed up for: callers who come alone and together.
_WARM_ROWS = (1, 8)


class Writing(tf.Module):
    """What `tf.saved_model.save` is given: a generator, and the one thing it is asked.

    Args:
        generator: of the text.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self._generator = generator
        signature = [
            tf.TensorSpec([None], tf.string, name="prompt"),
            tf.TensorSpec([], tf.int32, name="max_new_tokens"),
            tf.TensorSpec([], tf.float32, name="temperature"),
            tf.TensorSpec([], tf.int32, name="seed"),
        ]
        self.generate = tf.function(generator.generate, signature, autograph=False)

    @property
    def signatures(self) -> dict[str, Any]:
        """What is asked, by name."""
        return {"serving_default": self.generate, "generate": self.generate}

    def warmup(self) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
        """Requests that a server may ask itself before others ask it: signatures and inputs."""
        for rows in _WARM_ROWS:
            yield (
                "generate",
                {
                    "prompt": tf.fill([rows], "a"),
                    "max_new_tokens": tf.constant(8),
                    "temperature": tf.constant(1.0),
                    "seed": tf.constant(0),
                },
            )


def export_generator(
    generator: Generator,
    pretrained: Pretrained,
    name: str,
    export_dir: str | os.PathLike[str],
) -> Path:
    """Writes what generates text as the next version of a SavedModel.

    Args:
        generator: of the run.
        pretrained: the run.
        name: as `zoo.export.export`'s.
        export_dir: as `zoo.export.export`'s.

    Returns:
        As `zoo.export.export`, and it raises the same.
    """
    return publish(
        lambda: Writing(generator),
        lambda folder: write_card(folder, card_of(pretrained, name), pretrained.encoder.vocabulary),
        name,
        export_dir,
    )


def card_of(pretrained: Pretrained, name: str) -> dict[str, Any]:
    """What the card of such a SavedModel says."""
    config, figures = pretrained.config, pretrained.metrics
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {"tasks": config.task_names, "text_files": config.patterns},
        "inputs": {
            "prompt": "string[B]",
            "max_new_tokens": "int32[]",
            "temperature": "float32[]",
            "seed": "int32[]",
        },
        "outputs": {"generate": {"text": "string[B]", "ids": "int32[B, N]"}},
        "model": config.model,
        "size": config.size,
        "tokens": {"unit": config.unit, "max_length": config.max_length},
        "config": config.to_json(),
        "metrics": {"validation": figures["validation"]},
        # Of then, when it was trained.
        "versions": figures["validation"].get("versions"),
        "machine": figures.get("machine"),
    }
