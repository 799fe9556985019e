"""What a model says of a split, and the figures that come of it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from zoo import metrics, pipeline
from zoo.errors import Diverged

# Of a batch, padding included.
EVALUATION_TOKENS = 16_384


def evaluate_split(
    logits_of: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    split: pipeline.Split,
    name: str,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of a split, and its logits, `float32[R, C]`, in the order of its rows.

    Args:
        logits_of: a batch, as `zoo.pipeline.batches` gives it, to `float32[B, C]`.
        split: of R rows.
        name: of the split, for the bar and the error.
        after_batch: called after every batch.

    Raises:
        Diverged: if a logit is not a finite number.
    """
    plan = pipeline.in_order_plan(split.lengths, batch_tokens=EVALUATION_TOKENS)
    started = time.monotonic()
    parts = []
    batches = pipeline.batches(split, plan)
    with tqdm(batches, name, total=len(plan), unit="batch", leave=False, disable=None) as bar:
        for inputs, _ in bar:
            parts.append(logits_of(inputs).numpy())
            after_batch()
    seconds = time.monotonic() - started
    logits = np.concatenate(parts)[np.argsort(np.concatenate(plan))]
    if not np.isfinite(logits).all():
        raise Diverged(f"the model's answers on {name} are not finite numbers")
    labels = np.asarray(split.labels)
    figures = metrics.score(logits, labels)
    figures["by_length"] = metrics.accuracy_by_length(logits, labels, split.lengths)
    return figures | {"seconds": seconds, "examples_per_second": len(split) / seconds}, logits
