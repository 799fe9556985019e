"""A model of the zoo trained by Keras's own `fit`, on any backend: on a GPU by JAX, say.

What it leaves is a run's folder like those of `zoo.training`, so that whatever reads one, the
export to a SavedModel first of all, reads it where TensorFlow is. What it does not do is go on
where it was interrupted.
"""

import os
import time
from typing import Any

import keras
import numpy as np

from zoo import metrics
from zoo.archive import Archive
from zoo.building import POLICIES, dtype_policy, not_decayed, refuse_longer_texts
from zoo.config import FIT_FIELDS, Config
from zoo.errors import Diverged, UsageError
from zoo.machine import machine, versions
from zoo.models import MODELS, WITHOUT_EMBEDDING
from zoo.silence import silenced
from zoo.splits import Split
from zoo.step_size import warmup_and_cosine
from zoo.tasks import get_task
from zoo.whole_files import replacing
from zoo.workdir import Workdir


def bucket_widths(lengths: np.ndarray) -> np.ndarray:
    """The lengths that rows are padded to: the longest, and others a factor of √2 apart.

    A compiler of whole programs makes one for each shape that it meets, and padding to the longest
    row of each batch would make a new shape of nearly every batch.

    Args:
        lengths: `int[R]`.

    Returns:
        `int[W]`, rising, none of which could be left out.

    Example:
        >>> bucket_widths(np.array([3, 30, 31, 100])).tolist()
        [3, 36, 100]
    """
    longest = int(lengths.max(initial=1))
    widths = [longest]
    while widths[-1] > max(1, int(lengths.min(initial=longest))):
        widths.append(max(1, int(np.ceil(longest / 2 ** (len(widths) / 2)))))
    rising = np.array(sorted(set(widths)))
    return rising[np.unique(np.searchsorted(rising, lengths))]


class LengthBuckets(keras.utils.PyDataset):
    """An epoch's batches of few shapes: rows padded to the nearest width that holds them.

    A batch has `batch_tokens // width` rows, one at least; what is missing of a last one is filled
    by rows of weight 0. Shuffled anew each epoch, by the seed alone.

    Args:
        split: the rows.
        widths: as `bucket_widths` gives them.
        batch_tokens: tokens of a batch at most, padding included.
        num_classes: C.
        seed: of the order; `None` for rows as they stand.

    Example:
        >>> split = Split(np.arange(1, 7), np.array([0, 1, 3, 6]), np.array([0, 1, 1]))
        >>> batches = LengthBuckets(split, np.array([1, 3]), batch_tokens=6, num_classes=2)
        >>> for inputs, labels, weights in batches:
        ...     print(inputs["ids"].tolist(), labels.argmax(axis=1), weights)
        [[1], [0], [0], [0], [0], [0]] [0 0 0 0 0 0] [1. 0. 0. 0. 0. 0.]
        [[2, 3, 0], [4, 5, 6]] [1 1] [1. 1.]
    """

    def __init__(
        self,
        split: Split,
        widths: np.ndarray,
        batch_tokens: int,
        num_classes: int,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.split = split
        self._widths, self._num_classes = widths, num_classes
        self._batch_tokens, self._seed, self._epoch = batch_tokens, seed, 0
        self._bucket = np.searchsorted(widths, np.maximum(split.lengths, 1))
        self._plan = self._make_plan()

    def _make_plan(self) -> list[tuple[int, np.ndarray]]:
        """The width and the rows of each batch."""
        rng = None if self._seed is None else np.random.default_rng([self._seed, self._epoch])
        plan = []
        for bucket, width in enumerate(self._widths.tolist()):
            rows = np.flatnonzero(self._bucket == bucket)
            if rng is not None:
                rng.shuffle(rows)
            size = self._rows_at(width)
            plan += [(width, rows[i : i + size]) for i in range(0, len(rows), size)]
        return plan if rng is None else [plan[i] for i in rng.permutation(len(plan))]

    def _rows_at(self, width: int) -> int:
        return max(1, self._batch_tokens // width)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch; of every epoch as many."""
        return len(self._plan)

    @property
    def padding_share(self) -> float:
        """The share of an epoch's tokens that are padding, in [0, 1)."""
        tokens = sum(width * self._rows_at(width) for width, _ in self._plan)
        return 1.0 - float(self.split.lengths.sum()) / tokens

    def rows(self, index: int) -> np.ndarray:
        """The rows of a batch, `int64[B]`, without those that fill it."""
        return self._plan[index][1]

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        width, rows = self._plan[index]
        size = self._rows_at(width)
        ids = np.zeros([size, width], "int32")
        labels = np.zeros([size, self._num_classes], "float32")
        weights = np.zeros(size, "float32")
        for place, row in enumerate(rows):
            values = self.split.row(row)
            ids[place, : len(values)] = values
        labels[np.arange(len(rows)), self.split.labels[rows]] = 1.0
        labels[len(rows) :, 0] = 1.0
        weights[: len(rows)] = 1.0
        return {"ids": ids}, labels, weights

    def on_epoch_end(self) -> None:
        """Shuffles anew; Keras calls it."""
        self._epoch += 1
        self._plan = self._make_plan()


class AveragingAdamW(keras.optimizers.AdamW):
    """AdamW whose running average forgets the first random weights, as that of `zoo.twins` does.

    Its decay rises as `(1 + t) / (10 + t)` with the steps t, up to the one that is asked for.
    """

    @property
    def ema_momentum(self) -> Any:
        """What the average keeps at this step; Keras asks at each."""
        steps = keras.ops.cast(self.iterations, "float32")
        return keras.ops.minimum(self._highest, (1.0 + steps) / (10.0 + steps))

    @ema_momentum.setter
    def ema_momentum(self, highest: float) -> None:
        self._highest = highest


class _Validation(keras.callbacks.Callback):
    """Tells how each epoch went, and keeps the best one's averaged weights."""

    def __init__(self, config: Config, folder: Workdir, twin: keras.Model, batches: LengthBuckets):
        super().__init__()
        self._config, self._folder, self._twin, self._batches = config, folder, twin, batches
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.monotonic() - self._started
        loss = float((logs or {})["loss"])
        if not np.isfinite(loss):
            raise Diverged(f"the loss of epoch {epoch + 1} is not finite: lower --learning_rate")
        # The callback before this one has put the averaged weights in.
        self._twin.set_weights(self.model.get_weights())
        figures, _ = _score(self._twin, self._batches, "validation")
        row = {
            "epoch": epoch + 1,
            "step": int(self.model.optimizer.iterations),
            "loss": loss,
            "validation_accuracy": figures["accuracy"],
            "validation_log_loss": figures["log_loss"],
            "seconds": seconds,
        }
        self.history.append(row)
        better = self.best is None or metrics.merit(row, self._config.select_by) > metrics.merit(
            self.best, self._config.select_by
        )
        if better:
            self.best = row
            with replacing(self._folder.model) as beside:
                self._twin.save(beside)
        self._folder.write_log(self.history)
        print(
            f"epoch {row['epoch']}/{self._config.epochs}: loss {loss:.4f}, validation accuracy "
            f"{row['validation_accuracy']:.4f}, log-loss {row['validation_log_loss']:.4f}, "
            f"{seconds:.0f} s{', the best so far' if better else ''}",
            flush=True,
        )


def fit(
    archive: Archive, config: Config, workdir: str | os.PathLike[str], *, score_test: bool = True
) -> dict[str, Any]:
    """Trains by Keras's `fit`, keeps the best epoch's averaged weights, and scores them.

    Sets Keras's random seed for the whole process. Finished before, it returns the figures of then;
    interrupted, it begins anew.

    Args:
        archive: on what.
        config: what to train, and how; of its fields, those in `FIT_FIELDS` have a part, and the
            others must be the archive's or the defaults.
        workdir: the run's folder; made if it is missing.
        score_test: whether to look at the test split at the end; not while choices are made.

    Returns:
        The contents of `metrics.json`.

    Raises:
        UsageError: if the configuration cannot work, or is not that of the run in `workdir`.
        RunError: if the disk refuses, or the loss is not a number.
    """
    _check(archive, config)
    folder = Workdir(workdir)
    with folder.claimed(config):
        if (done := folder.metrics()) is not None:
            print(f"{folder.path} holds this very run, finished", flush=True)
            return done
        with silenced():  # it imports TensorFlow where there is one
            keras.utils.set_random_seed(config.seed)
        folder.begin(config, archive.fingerprint, archive.vocabulary)
        return _fit(archive, config, folder, score_test)


def _check(archive: Archive, config: Config) -> None:
    if config.model in WITHOUT_EMBEDDING:
        raise UsageError(
            f"--model={config.model} cannot work: it counts words before it is trained, which "
            "trainers/train.py alone does"
        )
    usual = Config(task=archive.task, **archive.settings)
    for name in usual.to_json():
        if name not in FIT_FIELDS and getattr(config, name) != getattr(usual, name):
            raise UsageError(
                f"--{name}={getattr(config, name)} cannot work: it must be {getattr(usual, name)!r}"
            )


def _fit(archive: Archive, config: Config, folder: Workdir, score_test: bool) -> dict[str, Any]:
    classes = len(get_task(archive.task).classes)
    model, twin = _twins(archive, config, classes)
    data = {
        name: LengthBuckets(
            split,
            bucket_widths(split.lengths),
            config.batch_tokens,
            classes,
            config.seed if name == "train" else None,
        )
        for name, split in archive.splits.items()
    }
    train = data["train"]
    steps = config.epochs * train.num_batches
    optimizer = AveragingAdamW(
        warmup_and_cosine(config.learning_rate, config.warmup_rate, steps),
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm or None,
        use_ema=True,
        ema_momentum=config.average_decay,
    )
    optimizer.exclude_from_weight_decay(not_decayed(model))
    if config.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=config.label_smoothing_rate,
            reduction="mean_with_sample_weight",
        ),
    )
    validation = _Validation(config, folder, twin, data["validation"])
    averaging = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    model.fit(train, epochs=config.epochs, verbose=0, callbacks=[averaging, validation])
    assert validation.best is not None
    figures = {
        **_final_figures(data, config, folder, score_test),
        "train_seconds": sum(row["seconds"] for row in validation.history),
        "saving_seconds": 0.0,
        "steps": steps,
        "epochs": config.epochs,
        "best_epoch": validation.best["epoch"],
        "padding_share": train.padding_share,
        "seed": config.seed,
        "config": config.to_json(),
        "machine": machine(),
        "backend": keras.backend.backend(),
    }
    folder.finish(figures)
    return figures


def _twins(archive: Archive, config: Config, classes: int) -> tuple[keras.Model, keras.Model]:
    """The model that is trained, and the one in float32 that is scored and kept."""
    made = []
    for policy in (POLICIES[config.mixed_precision], "float32"):
        try:
            with dtype_policy(policy):
                model = MODELS[config.model](
                    archive.inputs,
                    classes,
                    size=config.size,
                    dropout_rate=config.dropout_rate,
                    word_dropout_rate=config.word_dropout_rate,
                    recurrent_dropout_rate=config.recurrent_dropout_rate,
                )
        except ValueError as error:
            raise UsageError(f"--model={config.model} --size={config.size}: {error}") from error
        refuse_longer_texts(config, model)
        made.append(model)
    return made[0], made[1]


def _final_figures(
    data: dict[str, LengthBuckets], config: Config, folder: Workdir, score_test: bool
) -> dict[str, Any]:
    """What the best epoch is worth on validation and, for the first and last time, test."""
    model = folder.load_model()
    temperature = 1.0
    if config.calibrate:
        _, logits = _score(model, data["validation"], "validation")
        temperature = metrics.temperature(logits, data["validation"].split.labels)
    about = {"parameters": model.count_params(), "versions": versions()}
    figures: dict[str, Any] = {}
    for name in ("validation", "test") if score_test else ("validation",):
        if name in data:
            figures[name] = _score(model, data[name], name, temperature)[0] | about
            print(f"{name}: {metrics.describe(figures[name])}", flush=True)
    return figures | {"temperature": temperature}


def _score(
    model: keras.Model, batches: LengthBuckets, name: str, divisor: float = 1.0
) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of a split, and its logits, `float32[R, C]`, in the order of its rows."""
    started = time.monotonic()
    split = batches.split
    logits = np.zeros([len(split), model.output_shape[-1]], "float32")
    for index in range(batches.num_batches):
        rows = batches.rows(index)
        inputs, _, _ = batches[index]
        logits[rows] = np.asarray(model.predict_on_batch(inputs))[: len(rows)] / divisor
    seconds = time.monotonic() - started
    if not np.isfinite(logits).all():
        raise Diverged(f"the model's answers on {name} are not finite numbers")
    figures = metrics.score(logits, split.labels)
    figures["by_length"] = metrics.accuracy_by_length(logits, split.labels, split.lengths)
    return figures | {"seconds": seconds, "examples_per_second": len(split) / seconds}, logits
