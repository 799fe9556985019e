"""A search for settings that do better on validation, trial by trial, whatever befalls.

What is tried is drawn by Optuna (Akiba et al. 2019) with its tree-structured Parzen estimator
(Bergstra et al. 2011), from the space that a model's family declares. Every trial is a run of
`trainers/train.py` that never looks at the test split, in a folder of its own; the folders are all
the state there is:

    ROOT/trials/0007/       the run, as `zoo.training` leaves it, checkpoints removed at its end
    ROOT/trials/0007.log    what it printed; a lock on it is a trial's claim
    ROOT/trials/0007.failed why it failed, if it did; removed, the trial is run again
    ROOT/search.json        what is searched, and from where
    ROOT/trials.json        the trials asked for: what was tried, and its figures on validation
    ROOT/best.flags         the best one of them, as a recipe

What trial 7 tries depends on the seed and on the figures of the six before it alone. Asked again,
the search replays what is finished, goes on with what is half done, and comes to the same end.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from zoo.config import Config
from zoo.errors import RunError, UsageError, reason, unknown_name
from zoo.interrupts import Signals
from zoo.machine import machine, versions
from zoo.models import SEARCH
from zoo.models.search import Choice, Space
from zoo.prepared import locked
from zoo.processes import claimed_log, run_to_end
from zoo.run import say
from zoo.tasks import get_task
from zoo.whole_files import replacing
from zoo.workdir import Workdir

# At most so many random trials before the estimator has something to estimate from.
_RANDOM_TRIALS = 8
_OF_WORDS = frozenset({"word_vectors", "word_dropout_rate", "embedding_step_rate"})


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        config: what was trained, and how.
        merit: the figure that the search makes small: log-loss, or 1 - accuracy, on validation;
            `None` if it failed.
        figures: of the validation split.
        seconds: of training.
    """

    config: Config
    merit: float | None
    figures: dict[str, Any]
    seconds: float


def space_of(config: Config, names: Sequence[str] = (), fixed: Collection[str] = ()) -> Space:
    """What is searched: what the model's family declares and the task can use.

    Args:
        config: where the search begins.
        names: of what is searched; all that is not fixed if empty.
        fixed: names of fields that keep what the configuration has; `size` fixes all of a size.

    Returns:
        The space; empty if nothing is left.

    Raises:
        UsageError: for a name that the family does not declare, or that is fixed.

    Example:
        >>> sorted(space_of(Config(model="nb_ngram"), fixed=["size", "batch_tokens"]))
        ['dropout_rate', 'learning_rate', 'weight_decay']
    """
    declared = dict(SEARCH[config.model])
    if get_task(config.task).kind != "text":
        declared = {name: of for name, of in declared.items() if name not in _OF_WORDS}
    if config.warm_start or config.pretrained:  # which fix the size
        declared.pop("word_vectors", None)
        declared = {name: of for name, of in declared.items() if not name.startswith("size.")}
    if "batch_size" in fixed:
        declared.pop("batch_tokens", None)
    for name in names:
        if name not in declared:
            raise unknown_name("search", name, declared)
        field, _, number = name.partition(".")
        sized = number and f",{number}=" in config.size
        if sized or (field in fixed and not number):
            raise UsageError(
                f"--search={name} cannot work: it is fixed by --{field}="
                f"{getattr(config, field)}; leave one of them out"
            )
    if names:
        return {name: declared[name] for name in names}
    return {name: of for name, of in declared.items() if name.split(".")[0] not in fixed}


def tune(
    base: Config,
    space: Space,
    trials: int,
    root: Path,
    train: Sequence[str],
    check: Callable[[], None] = lambda: None,
) -> list[Trial]:
    """Runs trials, or what is missing of them.

    Args:
        base: what all trials have in common; its `seed` is the search's, too, and its `select_by`
            says what is made better.
        space: as `space_of` gives it.
        trials: how many, those that are finished included.
        root: the search's folder; made if it is missing.
        train: the command that a trial's flags are added to.
        check: raises if no trial could begin; called before the first one that is to run, and
            after one that failed.

    Returns:
        All of them in their order.

    Raises:
        UsageError: if the space is empty, `root` holds another search, or a trial's settings
            cannot work.
        RunError: if every trial failed, optuna is not installed, or the disk refuses.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM, when the trial has ended.
    """
    if not space:
        raise UsageError("nothing to search: every setting is given; leave one out")
    if trials < 1:
        raise UsageError(f"--trials={trials} cannot work: it must be at least 1")
    try:
        import optuna
    except ImportError as error:
        raise RunError(
            "pip install 'sequence-zoo[tune]' brings optuna, which says what to try"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, done = optuna.create_study(), list[Trial]()
    folders = [Workdir(root / "trials" / f"{number:04d}") for number in range(trials)]
    if any(folder.metrics() is None and not _failure(folder) for folder in folders):
        check()  # before the search is written down: with the flag mended it would be another one
    with _kept(root, base, space), Signals() as signals:
        signals.patient = True
        for number, folder in enumerate(folders):
            # A sampler a trial: where a search was cut does not change what is drawn.
            study.sampler = optuna.samplers.TPESampler(
                seed=(base.seed * 1_000_003 + number) % 2**32, n_startup_trials=_RANDOM_TRIALS
            )
            drawn = study.ask()
            config = _configured(base, {name: _draw(drawn, name, of) for name, of in space.items()})
            label = f"[{number + 1}/{trials}]"
            log_path = folder.path.with_suffix(".log")
            with claimed_log(log_path, True, label, signals) as log:
                assert log is not None
                new = _run_trial(config, folder, train, log, signals, check)
            done.append(_told(study, drawn, config, folder))
            say(f"{label} {_line(done[-1], _failure(folder))}")
            if new:
                _write(root, done, space)
        # Even if nothing was new: whoever was killed may not have come to it, and fewer trials may
        # be asked for than there are.
        _write(root, done, space)
    if all(trial.merit is None for trial in done):
        raise RunError(f"all {trials} trials failed: {root}/trials/*.log say why")
    return done


def _run_trial(
    config: Config,
    folder: Workdir,
    train: Sequence[str],
    log: IO[bytes],
    signals: Signals,
    check: Callable[[], None],
) -> bool:
    """Runs a trial to its end or its failure; whether there was anything left to run."""
    if folder.metrics() is not None:
        if differences := folder.config().differences(config):
            raise UsageError(
                f"{folder.path} is of another search: {'; '.join(differences)}; give another "
                "--workdir"
            )
        _drop_checkpoints(folder)
        return False
    if _failure(folder):
        return False
    command = [*train, *config.to_flags(), f"--workdir={folder.path}"]
    failure = run_to_end(command, log, signals)
    signals.stop()
    if failure is None and folder.metrics() is None:
        failure = "it ended without figures"
    if failure:
        # What is not the trial's own ends the search: written down, it would outlast its cause.
        if failure.partition(":")[0] == "exit code 2":
            raise UsageError(f"{failure} ({folder.path.with_suffix('.log')})")
        check()
        # Written down, so that the trials behind it are drawn from the same history again.
        with replacing(_failed(folder)) as beside:
            beside.write_text(f"{failure}\n", "utf-8")
    else:
        _drop_checkpoints(folder)
    return True


def _drop_checkpoints(folder: Workdir) -> None:
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _failed(folder: Workdir) -> Path:
    return folder.path.with_suffix(".failed")


def _failure(folder: Workdir) -> str | None:
    """Why a trial failed, or `None`."""
    path = _failed(folder)
    return path.read_text("utf-8").strip() if path.exists() else None


@contextlib.contextmanager
def _kept(root: Path, base: Config, space: Space) -> Iterator[None]:
    """Keeps a search's folder for one process, and for one search."""
    if (root / "config.json").exists():
        raise UsageError(f"{root} is a run's folder: give another --workdir for the search")
    about = {"base": base.to_json(), "space": {name: repr(of) for name, of in space.items()}}
    try:
        (root / "trials").mkdir(parents=True, exist_ok=True)
        (root / ".lock").touch()
    except OSError as error:
        raise RunError(f"cannot write to {root}: {reason(error)}") from error
    with locked(root / ".lock"):
        _check_search(root / "search.json", base, about)
        yield


def _check_search(file: Path, base: Config, about: dict[str, Any]) -> None:
    """Writes down what a folder's search is, or makes sure that it is this one."""
    if not file.exists():
        with replacing(file) as beside:
            beside.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        return
    try:
        known = json.loads(file.read_text("utf-8"))
        differences = Config.from_json(known["base"]).differences(base)
        differences += ["the space"] * (known["space"] != about["space"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if differences:
        raise UsageError(
            f"{file.parent} holds another search ({'; '.join(differences)}): give another --workdir"
        )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The best trial; the first of several."""
    return min(
        (trial for trial in trials if trial.merit is not None), key=lambda trial: trial.merit or 0
    )


def _draw(trial: Any, name: str, of: Any) -> Any:
    if isinstance(of, Choice):
        return trial.suggest_categorical(name, of.values)
    return trial.suggest_float(name, of.low, of.high, log=of.log)


def _configured(base: Config, values: dict[str, Any]) -> Config:
    # Three digits: more would only make a recipe hard to read.
    rounded: dict[str, Any] = {
        name: float(f"{value:.3g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
    fields = {name: value for name, value in rounded.items() if not name.startswith("size.")}
    drawn = {n.removeprefix("size."): v for n, v in rounded.items() if n not in fields}
    given = [one for one in base.size.split(",") if one.partition("=")[0] not in drawn]
    settings = [f"{name}={value}" for name, value in drawn.items()]
    if "batch_tokens" in fields:
        fields["batch_size"] = 0
    return replace(base, **fields, size=",".join([*given, *settings]))


def _told(study: Any, drawn: Any, config: Config, folder: Workdir) -> Trial:
    """A trial's end, of which the study is told."""
    import optuna

    figures = folder.metrics()
    if figures is None:
        study.tell(drawn, state=optuna.trial.TrialState.FAIL)
        return Trial(config, None, {}, 0.0)
    scores = figures["validation"]
    merit = 1 - scores["accuracy"] if config.select_by == "accuracy" else scores["log_loss"]
    study.tell(drawn, merit)
    return Trial(config, merit, scores, figures["train_seconds"])


def _line(trial: Trial, failure: str | None) -> str:
    if trial.merit is None:
        return f"failed: {failure}"
    scores = trial.figures
    return (
        f"validation accuracy {scores['accuracy']:.4f}, log-loss {scores['log_loss']:.4f}, "
        f"{trial.seconds:.0f} s: {' '.join(trial.config.to_flags())}"
    )


def _write(root: Path, trials: Sequence[Trial], space: Space) -> None:
    """The list of trials, and the best one's recipe."""
    rows = [
        {
            "flags": trial.config.to_flags(),
            "seconds": trial.seconds,
            "validation": {
                name: trial.figures[name]
                for name in ("accuracy", "log_loss", "expected_calibration_error")
                if name in trial.figures
            },
        }
        for trial in trials
    ]
    about = {"searched": sorted(space), "versions": versions(), "machine": machine()}
    with replacing(root / "trials.json") as beside:
        beside.write_text(json.dumps({**about, "trials": rows}, indent=2) + "\n", "utf-8")
    if all(trial.merit is None for trial in trials):
        (root / "best.flags").unlink(missing_ok=True)  # it would be of other trials
    else:
        best = best_of(trials)
        head = (
            f"# The best of {len(trials)} trials: validation accuracy "
            f"{100 * best.figures['accuracy']:.2f} %, log-loss {best.figures['log_loss']:.4f}."
        )
        with replacing(root / "best.flags") as beside:
            beside.write_text("\n".join([head, *best.config.to_flags(), ""]), "utf-8")
