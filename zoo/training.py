"""One run: a configuration and a folder in, a trained model and its figures out.

A run is exactly repeatable, and exactly resumable: the order of the examples is a function of seed
and epoch, a checkpoint holds every variable (random states and running averages among them) and
the place in the epoch, so that a run that was killed ends with the very weights of one that was
not.

What a run leaves in its folder makes the folder whole without the data: `config.json`,
`vocabulary.txt`, `model.keras` (the best epoch's averaged weights, float32), `metrics.json`
(written last: a folder that has it is finished; it holds the temperature that the logits are to be
divided by), `log.csv`, `tensorboard/` and pictures.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import pipeline, plots
from zoo.config import Config
from zoo.distribution import is_chief, make_team
from zoo.errors import RunError, UsageError, unknown_name
from zoo.follower import follow
from zoo.interrupts import Signals
from zoo.learner import Learner, divide_logits, logits_function
from zoo.lineage import refuse_test_texts
from zoo.machine import versions
from zoo.prepared import resolve
from zoo.run import (
    Run,
    evaluate_split,
    model_inputs,
    require_tensorflow,
    say,
    say_figures,
    training_split,
)
from zoo.tasks import Task, get_task
from zoo.text import WORDPIECE, TextEncoder, TextSettings
from zoo.wordpiece import WordPieceEncoder, make_encoder
from zoo.workdir import Workdir


@dataclass(frozen=True)
class Trained:
    """A finished run, as `load_trained` reads it back.

    Args:
        config: what was trained, and how.
        task: on what.
        model: the best epoch's averaged weights, float32, its logits divided by the temperature.
        encoder: strings to ids; `None` for a task on features.
        metrics: the contents of `metrics.json`.
    """

    config: Config
    task: Task
    model: keras.Model
    encoder: TextEncoder | WordPieceEncoder | None
    metrics: dict[str, Any]


def train_and_evaluate(
    config: Config,
    workdir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    score_test: bool = True,
) -> dict[str, Any]:
    """Trains until the last epoch or the end of patience, keeps the best epoch, and scores it.

    Sets Keras's random seed, and TensorFlow to deterministic ops, for the whole process. Begun
    before, it goes on where it was; finished before, it returns the figures of then. The test
    split is looked at once, after training has ended.

    Args:
        config: what to train, and how.
        workdir: the run's folder; made if it is missing.
        data_dir: where the prepared data are; `None` for TensorFlow Datasets' own folder.
        score_test: whether to look at the test split at the end; not while choices are made. A
            finished run that has not looked there does so when it is asked again.

    Returns:
        The contents of `metrics.json`; of `--strategy=multi_worker`, on the chief alone: the other
        workers leave `workdir` alone, and return nothing.

    Raises:
        UsageError: if the configuration cannot work, or is not that of the run in `workdir`.
        RunError: if the data are not prepared, the disk refuses, or the loss is not a number.
        PeerLost: if another worker is gone; a new process goes on when all are there.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM, when the state is saved.
    """
    require_tensorflow()
    task = get_task(config.task)
    if not is_chief(config.strategy):
        with Signals() as signals:
            _follow(config, task, data_dir, signals)
            signals.stop()
        return {}
    folder = Workdir(workdir)
    with Signals() as signals, folder.claimed(config):
        if (done := folder.metrics()) is not None:
            if score_test and task.test is not None and "test" not in done:
                return _score_test(config, folder, done, data_dir)
            say(f"{folder.path} holds this very run, finished; its figures:")
            say_figures(done)
            return done
        team = make_team(config.strategy, signals)
        with team.leading():
            data, known = _read_data(config, task, data_dir)
            signals.stop()
            keras.utils.set_random_seed(config.seed)
            tf.config.experimental.enable_op_determinism()
            run = Run(config, folder, data, signals, known, team)
            signals.stop()
            run.train()
            figures = run.finish(data, score_test)
            signals.stop()
        return figures


def _follow(
    config: Config, task: Task, data_dir: str | os.PathLike[str] | None, signals: Signals
) -> None:
    """The part of a worker that is not the chief."""
    team = make_team(config.strategy, signals)
    data, _ = _read_data(config, task, data_dir)
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    classes = len(task.classes)
    follow(
        config,
        data,
        team,
        signals,
        lambda inputs, total_steps: Learner(config, inputs, classes, total_steps, team),
    )


def check(config: Config, data_dir: str | os.PathLike[str] | None = None) -> None:
    """Makes sure that a run could begin: reads its data, and builds its model.

    Raises:
        UsageError, RunError: as `train_and_evaluate` does before the first step.
    """
    require_tensorflow()
    task = get_task(config.task)
    data, known = _read_data(config, task, data_dir)
    training_split(config, data)
    learner = Learner(config, model_inputs(data), len(task.classes), total_steps=1)
    if known is not None:
        learner.begin_with(known[0], same_classes=known[1] == task.classes)


def _read_data(
    config: Config, task: Task, data_dir: str | os.PathLike[str] | None
) -> tuple[pipeline.EncodedTask, tuple[keras.Model, tuple[str, ...]] | None]:
    """The task as ids, and what training begins with: a model and its classes."""
    settings, progress = _text_settings(config, task), sys.stderr.isatty()
    known, words = None, tuple[str, ...]()
    if config.warm_start or config.pretrained:
        refuse_test_texts(config)
        model, classes, words = _load_known(config)
        known = model, classes
    # Word pieces are what the encoder has learnt; words, what the data hold besides.
    given = words if config.unit == WORDPIECE else None
    data = pipeline.encode(task, resolve(data_dir), settings, given, progress=progress)
    if words and given is None and data.vocabulary:
        both = tuple(dict.fromkeys(words + data.vocabulary))
        data = pipeline.encode(task, resolve(data_dir), settings, both, progress=progress)
    return data, known


def _score_test(
    config: Config,
    folder: Workdir,
    done: dict[str, Any],
    data_dir: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """What `Run.finish` left undone: the figures of test, beside those of a finished run."""
    trained = load_trained(folder.path)
    data = encode_again(trained, data_dir)
    folder.resume(config, data.fingerprint)
    split = data.splits["test"]
    scores, logits = evaluate_split(logits_function(trained.model), split, "test")
    about = {"parameters": trained.model.count_params(), "versions": versions()}
    figures = {**done, "test": scores | about}
    plots.draw(
        folder.path,
        title=f"{config.task}, {config.model} {config.size}",
        split="test",
        classes=data.task.classes,
        history=folder.read_log(),
        logits=logits,
        labels=np.asarray(split.labels),
    )
    folder.finish(figures)
    say_figures(figures)
    return figures


def load_trained(workdir: str | os.PathLike[str]) -> Trained:
    """Reads a finished run back.

    Raises:
        RunError: if `workdir` holds none.
    """
    folder = Workdir(workdir)
    figures = folder.metrics()
    if figures is None or not folder.model.exists():
        raise RunError(
            f"{folder.path} holds no finished run: python trainers/train.py "
            f"--workdir={folder.path} makes one, or goes on with the one it has begun"
        )
    config = folder.config()
    task = get_task(config.task)
    settings = _text_settings(config, task)
    try:
        model = folder.load_model()
        divide_logits(model, figures.get("temperature", 1.0))
        encoder = make_encoder(folder.vocabulary(), settings) if settings else None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder.path} is damaged: {error}") from error
    return Trained(config, task, model, encoder, figures)


def evaluate(
    trained: Trained, split: str, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """The figures of a finished run on one split of its task, computed anew.

    Args:
        trained: the run.
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: where the prepared data are; `None` for TensorFlow Datasets' own folder.

    Returns:
        As under that split in `metrics.json`.

    Raises:
        UsageError: if the task has no such split.
        RunError: if the data are not prepared, or are not those of the run.
    """
    data = encode_again(trained, data_dir)
    if split not in data.splits:
        raise unknown_name("split", split, data.splits)
    figures, _ = evaluate_split(logits_function(trained.model), data.splits[split], split)
    return figures | {"parameters": trained.model.count_params(), "versions": versions()}


def encode_again(
    trained: Trained, data_dir: str | os.PathLike[str] | None = None
) -> pipeline.EncodedTask:
    """A finished run's task with the run's own ids.

    Raises:
        RunError: if the data are not prepared, or are not those of the run.
    """
    task, encoder = trained.task, trained.encoder
    settings = encoder.settings if encoder else None
    if isinstance(encoder, WordPieceEncoder):
        return pipeline.encode(task, resolve(data_dir), settings, encoder.vocabulary)
    data = pipeline.encode(task, resolve(data_dir), settings)
    if encoder is None or encoder.vocabulary == data.vocabulary:
        return data
    # One that began with another run's holds words that no data tell of, besides all of theirs.
    begun = trained.config.warm_start or trained.config.pretrained
    if not begun or not set(data.vocabulary) <= set(encoder.vocabulary):
        raise RunError(f"the data of {task.name} have changed since the run")
    return pipeline.encode(task, resolve(data_dir), settings, encoder.vocabulary)


def _load_known(config: Config) -> tuple[keras.Model, tuple[str, ...], tuple[str, ...]]:
    """The model that training begins with, its classes and its words."""
    if config.pretrained:
        # Late: no other run pays for the imports.
        from zoo.pretrained import is_bert, load
        from zoo.pretraining import load_pretrained

        if is_bert(config):
            bert = load(config)
            return bert.model, (), bert.tokenizer.vocabulary
        before = load_pretrained(config.pretrained)
        _compare("pretrained", config, {"model", "size", "unit"}, before.config)
        return before.model, (), before.encoder.vocabulary
    trained = load_trained(config.warm_start)
    ours, theirs = (get_task(c.task).kind for c in (config, trained.config))
    if ours != theirs:
        raise UsageError(
            f"--warm_start={config.warm_start} cannot work: that run has kind {theirs!r}, not "
            f"{ours!r}"
        )
    _compare(
        "warm_start",
        config,
        {"model", "size"} | ({"unit"} if ours == "text" else set()),
        trained.config,
    )
    encoder = trained.encoder
    return trained.model, trained.task.classes, encoder.vocabulary if encoder else ()


def _compare(flag: str, config: Config, names: set[str], theirs: Any) -> None:
    for name in sorted(names):
        if getattr(config, name) != getattr(theirs, name):
            raise UsageError(
                f"--{flag}={getattr(config, flag)} cannot work: that run has {name} "
                f"{getattr(theirs, name)!r}, not {getattr(config, name)!r}"
            )


def _text_settings(config: Config, task: Task) -> TextSettings | None:
    if task.kind != "text":
        return None
    return TextSettings(config.unit, config.vocabulary_size, config.max_length)  # type: ignore[arg-type]
