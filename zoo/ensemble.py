"""Several finished runs of one task, joined into one classifier, scored, and exported as one.

How they are mixed is told in `zoo/mixing.py`. An ensemble's folder holds `ensemble.json`, written
last: its members, weights, temperature and figures. The members stay where they are, and are
needed for an export.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import metrics
from zoo.errors import RunError, UsageError, reason
from zoo.export import card_head, publish
from zoo.learner import logits_function
from zoo.machine import machine, versions
from zoo.mixing import RULE, Mix, fit_mix, held_out_log_loss
from zoo.paths import expanded
from zoo.pipeline import EncodedTask
from zoo.prepared import locked
from zoo.run import evaluate_split, say, say_figures
from zoo.servable import Answering, RawModel
from zoo.training import Trained, encode_again, load_trained
from zoo.whole_files import replacing
from zoo.workdir import Workdir

_FILE = "ensemble.json"


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Args:
        folder: the run's.
        digest: SHA-256 of its weights, by which it is known again wherever it lies.
        trained: what it holds.
    """

    folder: Path
    digest: str
    trained: Trained


@dataclass(frozen=True)
class Ensemble:
    """Runs of one task and how they are mixed.

    Args:
        members: the runs.
        mix: their weights, in their order, and the temperature.
        figures: the contents of `ensemble.json`.
    """

    members: tuple[Member, ...]
    mix: Mix
    figures: dict[str, Any]


def load_members(folders: Sequence[str | os.PathLike[str]]) -> tuple[Member, ...]:
    """Reads the finished runs of an ensemble.

    Raises:
        UsageError: if there are none, one is named twice, or two are of different tasks.
        RunError: if one is not finished, or is damaged.
    """
    if not folders or not all(map(os.fspath, folders)):
        raise UsageError("--members= cannot work: it must name folders of finished runs")
    members: list[Member] = []
    for folder in folders:
        trained = load_trained(folder)
        member = Member(Workdir(folder).path, _digest(trained.model), trained)
        for other in members:
            if other.trained.task != trained.task:
                raise UsageError(
                    f"{other.folder} is of task {other.trained.task.name}, {member.folder} of "
                    f"{trained.task.name}: the members of an ensemble must be of one task"
                )
            if other.digest == member.digest:
                raise UsageError(
                    f"{other.folder} and {member.folder} hold the same model: name it once"
                )
        members.append(member)
    return tuple(members)


def join(
    members: Sequence[Member],
    workdir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    score_test: bool = True,
) -> Ensemble:
    """Finds the weights on validation, scores the mix, and writes the figures down.

    The test split is looked at once, after the weights are found. Joined before, the same members
    are what they were, and nothing is scored twice.

    Args:
        members: as `load_members` gives them.
        workdir: the ensemble's folder; made if it is missing.
        data_dir: where the prepared data are; `None` for TensorFlow Datasets' own folder.
        score_test: whether to look at the test split; not while members are chosen. An ensemble
            that has not looked there does so when it is asked again.

    Returns:
        The ensemble.

    Raises:
        UsageError: if `workdir` is a run's, or an ensemble's of other members.
        RunError: if the data are not prepared, are not those of the runs or of the weights, or the
            disk refuses.
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"an ensemble runs on TensorFlow, not on KERAS_BACKEND={keras.backend.backend()}"
        )
    if not os.fspath(workdir):
        raise UsageError("--workdir= cannot work: it must name a folder")
    path = expanded(workdir)
    if (path / "config.json").exists():
        raise UsageError(f"{path} is a run's folder: give another --workdir for the ensemble")
    with _kept(path):
        there = _read(path / _FILE, members) if (path / _FILE).exists() else None
        figures = _score(members, data_dir, there, score_test)
        if figures == there:
            say(f"{path} holds this very ensemble, finished; its figures:")
        else:
            with replacing(path / _FILE) as beside:
                text = json.dumps(figures, indent=2, allow_nan=False)
                beside.write_text(text + "\n", "utf-8")
    for row in figures["members"]:
        line = metrics.describe(row["validation"])
        say(f"weight {row['weight']:.4f} {row['folder']}: validation: {line}")
    say(f"temperature {figures['temperature']:.4f}")
    if (held_out := figures.get("held_out_log_loss")) is not None:
        say(f"log-loss on rows of validation that had no part in the weights: {held_out:.4f}")
    say_figures(figures)
    return Ensemble(tuple(members), _mix(members, figures), figures)


def _digest(model: keras.Model) -> str:
    # Not of the file: a run's temperature is none of the file's, and changes what it answers.
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Keeps a folder for one process; another waits, and finds the figures there."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".lock").touch()
    except OSError as error:
        raise RunError(f"cannot write to {path}: {reason(error)}") from error
    try:
        with locked(path / ".lock"):
            yield
    finally:
        with contextlib.suppress(OSError):  # it holds an ensemble
            for folder in made:
                folder.rmdir()


def _read(file: Path, members: Sequence[Member]) -> dict[str, Any]:
    """The figures of a finished ensemble, if it is of these members, in whatever order."""
    try:
        figures = json.loads(file.read_text("utf-8"))
        there = {row["weights_sha256"]: row["folder"] for row in figures["members"]}
        whole = {"temperature", "validation"} <= figures.keys() and figures.get("test", True)
        if not whole or any("weight" not in row for row in figures["members"]):
            raise ValueError("a part of it is missing")  # to find it anew would be to look twice
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if there.keys() != {member.digest for member in members}:
        asked = ", ".join(str(member.folder.absolute()) for member in members)
        raise UsageError(
            f"{file.parent} is of an ensemble of other members, or of what they were before they "
            f"were trained anew ({', '.join(there.values())} there, {asked} asked): ask for the "
            "same, or give another --workdir"
        )
    return figures


def _score(
    members: Sequence[Member],
    data_dir: str | os.PathLike[str] | None,
    there: dict[str, Any] | None,
    score_test: bool,
) -> dict[str, Any]:
    """The figures of an ensemble: what is there, and what is still to be found."""
    task = members[0].trained.task
    wanted = [name for name in ("validation", "test")[: 1 + score_test] if name in task.splits]
    if there and there.keys() >= set(wanted):
        return there
    data = [encode_again(member.trained, data_dir) for member in members]
    now = {one.digest: of.fingerprint for one, of in zip(members, data, strict=True)}
    if there and any(row.get("data") != now[row["weights_sha256"]] for row in there["members"]):
        raise RunError(f"the data of {task.name} have changed since the weights were found")
    graphs = [logits_function(member.trained.model) for member in members]

    def scored(name: str) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """The members' logits on a split, float32[M, R, C], its labels, and what each is worth."""
        labels = np.asarray(data[0].splits[name].labels)
        found = []
        for member, encoded, graph in zip(members, data, graphs, strict=True):
            # Each member has ids of its own: nothing else would tell that a row is another's.
            if not np.array_equal(labels, encoded.splits[name].labels):
                raise RunError(
                    f"the rows of {name} are not the same for {members[0].folder} and "
                    f"{member.folder}: the data of {task.name} have changed meanwhile"
                )
            found.append(evaluate_split(graph, encoded.splits[name], f"{name}, {member.folder}"))
        return np.stack([logits for _, logits in found]), labels, [figures for figures, _ in found]

    figures = dict(there or {})
    for name in wanted:
        if name in figures:
            continue
        logits, labels, alone = scored(name)
        if name == "validation":
            figures = _weigh(members, data, fit_mix(logits, labels), alone)
            figures["held_out_log_loss"] = held_out_log_loss(logits, labels)
        mix = _mix(members, figures)
        seconds = sum(of_member["seconds"] for of_member in alone)
        # No figures by length: each member counts another one.
        figures[name] = metrics.score(mix.log_probabilities(logits), labels) | {
            "seconds": seconds,
            "examples_per_second": len(labels) / seconds,
            "parameters": sum(member.trained.model.count_params() for member in members),
            "versions": versions(),
        }
    return figures


def _mix(members: Sequence[Member], figures: dict[str, Any]) -> Mix:
    """What is written down, in the order of these members."""
    weights = {row["weights_sha256"]: row["weight"] for row in figures["members"]}
    return Mix(tuple(weights[member.digest] for member in members), figures["temperature"])


def _weigh(
    members: Sequence[Member], data: Sequence[EncodedTask], mix: Mix, alone: list[dict[str, Any]]
) -> dict[str, Any]:
    """How a mix is written down."""
    return {
        "task": members[0].trained.task.name,
        "rule": RULE,
        "temperature": mix.temperature,
        "members": [
            {
                "folder": str(member.folder.absolute()),
                "weight": weight,
                "weights_sha256": member.digest,
                "data": encoded.fingerprint,
                "config": member.trained.config.to_json(),
                "validation": validation | {"parameters": member.trained.model.count_params()},
            }
            for member, encoded, weight, validation in zip(
                members, data, mix.weights, alone, strict=True
            )
        ],
        "versions": versions(),
        "machine": machine(),
    }


def export_ensemble(ensemble: Ensemble, name: str, export_dir: str | os.PathLike[str]) -> Path:
    """Writes an ensemble as the next version of one SavedModel, as `zoo.export.export` does a run.

    It takes raw strings: each member's tokenizer and vocabulary stand in front of it. `logits` are
    the mix's log-probabilities. A member whose weight is 0 is left out: it would take its time and
    change nothing.

    Args:
        ensemble: what `join` gave.
        name: the SavedModel's name.
        export_dir: folder of all SavedModels; made if it is missing.

    Returns:
        `export_dir/name/version`.

    Raises:
        UsageError, RunError: as `zoo.export.export`.
    """
    task = ensemble.members[0].trained.task
    pairs = zip(ensemble.members, ensemble.mix.coefficients, strict=True)
    heard = [(member.trained, factor) for member, factor in pairs if factor > 0]

    def make() -> Answering:
        models = [RawModel(trained.model, trained.encoder) for trained, _ in heard]
        factors = [factor for _, factor in heard]

        def logits_of(*inputs: tf.Tensor) -> tf.Tensor:
            logs = [tf.nn.log_softmax(model(*inputs)) for model in models]  # M x float32[B, C]
            pooled = tf.add_n([a * log for a, log in zip(factors, logs, strict=True)])
            return tf.nn.log_softmax(pooled)  # float32[B, C]

        return Answering(models, logits_of, task.classes)

    return publish(make, lambda folder: _write_card(folder, ensemble, name), name, export_dir)


def _write_card(folder: Path, ensemble: Ensemble, name: str) -> None:
    folder.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    for member, weight in zip(ensemble.members, ensemble.mix.weights, strict=True):
        config, encoder = member.trained.config, member.trained.encoder
        tokens: dict[str, Any] | None = None
        if encoder is not None:
            tokens = {
                "unit": config.unit,
                "max_length": config.max_length,
                "vocabulary": f"vocabulary-{len(rows)}.txt",
            }
            words = "".join(f"{word}\n" for word in encoder.vocabulary)
            (folder / tokens["vocabulary"]).write_text(words, "utf-8")
        rows.append(
            {
                "model": config.model,
                "size": config.size,
                "weight": weight,
                "tokens": tokens,
                "config": config.to_json(),
            }
        )
    figures = ensemble.figures
    first = ensemble.members[0].trained
    card = card_head(name, first.task, first.encoder is not None) | {
        "model": "ensemble",
        "rule": RULE,
        "temperature": ensemble.mix.temperature,
        "members": rows,
        "metrics": {split: figures[split] for split in ("validation", "test") if split in figures},
        "versions": figures["versions"],
        "machine": figures["machine"],
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")
