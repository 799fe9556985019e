"""Learning from text alone: words in, a model that a classifier can begin with out.

A run of this kind is as repeatable, resumable and whole as one of `zoo.training`, and leaves the
same files: `model.keras` holds the encoder of a family with what tells words on top of it, and
`metrics.json` how well it does. `trainers/train.py --pretrained=…` takes all but the top.
"""

import os
import sys
import unicodedata
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.corpus import Corpus, read_corpus
from zoo.distribution import is_chief, make_team
from zoo.errors import RunError
from zoo.follower import follow
from zoo.interrupts import Signals
from zoo.machine import machine, versions
from zoo.prepared import resolve
from zoo.pretraining_config import PretrainingConfig
from zoo.run import Run, require_tensorflow, say
from zoo.tasks import get_task
from zoo.text import FIRST_WORD_ID, TextEncoder, TextSettings
from zoo.word_learner import WordLearner
from zoo.workdir import Workdir


@dataclass(frozen=True)
class Pretrained:
    """A finished run of `pretrain`.

    Args:
        config: what was learnt, and how.
        model: of `zoo.models.words.build_predictor`, the best epoch's averaged weights, float32.
        encoder: strings to ids.
        metrics: the contents of `metrics.json`.
    """

    config: PretrainingConfig
    model: keras.Model
    encoder: TextEncoder
    metrics: dict[str, Any]


class _PretrainingRun(Run):
    """A run whose learner tells words."""

    def _make_learner(self, inputs: Any, data: Corpus) -> WordLearner:
        self._characters = characters_of(data)
        return WordLearner(self._config, inputs, self._total_steps, self._team)

    def _prepare_learner(self, data: Any, known: Any) -> None:
        """It begins with nothing but word vectors, if with these."""
        self._validate()  # text that there is nothing to tell in is refused now, not after an epoch

    def _validate(self) -> dict[str, Any]:
        return self._learner.evaluate(self._validation, self._characters, self._stop_if_asked)

    def finish(self, data: Any, score_test: bool = False) -> dict[str, Any]:
        """Scores the best epoch on validation."""
        self._learner.averaged.set_weights(self._folder.load_model().get_weights())
        figures = self._validate()
        about = {"parameters": self._learner.averaged.count_params(), "versions": versions()}
        figures = {"validation": figures | about, **self.summary(), "machine": machine()}
        self._folder.finish(figures)
        say_words(figures)
        return figures


def pretrain(
    config: PretrainingConfig,
    workdir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Learns to tell words until the last epoch or the end of patience; keeps the best epoch.

    Sets Keras's random seed, and TensorFlow to deterministic ops, for the whole process. Begun
    before, it goes on where it was; finished before, it returns the figures of then.

    Args:
        config: what to learn, and how.
        workdir: the run's folder; made if it is missing.
        data_dir: where the prepared data are; `None` for TensorFlow Datasets' own folder.

    Returns:
        The contents of `metrics.json`: under `"validation"`, what `WordLearner.evaluate` says; on
        a worker that is not the chief, nothing.

    Raises:
        UsageError: if the configuration cannot work, or is not that of the run in `workdir`.
        RunError: if the data are not prepared, the disk refuses, or the loss is not a number.
        PeerLost: if another worker is gone; a new process goes on when all are there.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM, when the state is saved.
    """
    require_tensorflow()
    if not is_chief(config.strategy):
        with Signals() as signals:
            _follow(config, data_dir, signals)
            signals.stop()
        return {}
    folder = Workdir(workdir, PretrainingConfig)
    with Signals() as signals, folder.claimed(config):
        if (done := folder.metrics()) is not None:
            say(f"{folder.path} holds this very run, finished; its figures:")
            say_words(done)
            return done
        team = make_team(config.strategy, signals)
        with team.leading():
            data = _read_data(config, data_dir)
            signals.stop()
            keras.utils.set_random_seed(config.seed)
            tf.config.experimental.enable_op_determinism()
            run = _PretrainingRun(config, folder, data, signals, team=team)
            signals.stop()
            run.train()
            figures = run.finish(data)
            signals.stop()
        return figures


def _follow(
    config: PretrainingConfig, data_dir: str | os.PathLike[str] | None, signals: Signals
) -> None:
    """The part of a worker that is not the chief."""
    team = make_team(config.strategy, signals)
    data = _read_data(config, data_dir)
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()

    def make_learner(inputs: Any, total_steps: int) -> WordLearner:
        return WordLearner(config, inputs, total_steps, team)

    follow(config, data, team, signals, make_learner)


def _read_data(config: PretrainingConfig, data_dir: str | os.PathLike[str] | None) -> Corpus:
    return read_corpus(
        [get_task(name) for name in config.task_names],
        config.patterns,
        _text_settings(config),
        resolve(data_dir),
        progress=sys.stderr.isatty(),
    )


def load_pretrained(workdir: str | os.PathLike[str]) -> Pretrained:
    """Reads a finished run of `pretrain` back.

    Raises:
        RunError: if `workdir` holds none.
    """
    folder = Workdir(workdir, PretrainingConfig)
    figures = folder.metrics()
    if figures is None or not folder.model.exists():
        raise RunError(
            f"{folder.path} holds no finished pretraining: python trainers/pretrain.py "
            f"--workdir={folder.path} makes one, or goes on with the one it has begun"
        )
    config = folder.config()
    encoder = TextEncoder(folder.vocabulary(), _text_settings(config))
    return Pretrained(config, folder.load_model(), encoder, figures)


def characters_of(data: Corpus) -> np.ndarray:
    """`int64[V]`, the characters that each id stands for, with the space behind a word.

    No space stands behind a mark, or a character of a script without spaces; of the bytes of one
    character, the first stands for it.
    """
    counts = np.ones(TextEncoder(data.vocabulary, data.settings).num_ids, "int64")
    if data.settings.unit == "word":
        counts[FIRST_WORD_ID:] = [len(word) + _is_spaced(word) for word in data.vocabulary]
    if data.settings.unit == "byte":
        counts[FIRST_WORD_ID + 0x80 : FIRST_WORD_ID + 0xC0] = 0
    return counts


def _is_spaced(word: str) -> bool:
    """Whether spaces set a word off: not if it is one wide character, as of Chinese, or a mark."""
    alone = len(word) == 1 and unicodedata.east_asian_width(word) in "WF"
    return word[0].isalnum() and not alone


def say_words(figures: dict[str, Any]) -> None:
    """Prints the line of a `metrics.json`."""
    found = figures["validation"]
    say(
        f"validation: perplexity {found['perplexity']:.1f}, {found['bits_per_character']:.3f} bits "
        f"per character, {100 * found['accuracy']:.1f} % of {found['words']:,} words told"
    )


def _text_settings(config: PretrainingConfig) -> TextSettings:
    return TextSettings(config.unit, config.vocabulary_size, config.max_length)  # type: ignore[arg-type]
