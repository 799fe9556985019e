"""Every model on every task over several seeds, one job at a time, whatever befalls.

A job is one run: a task, a model and a seed, trained by a fresh process of `trainers/train.py` in a
folder of its own, so that a job that fails fails alone. The folders are the state:

    ROOT/TASK/MODEL/SEED/       the run, as `zoo.training` leaves it, checkpoints removed at its end
    ROOT/TASK/MODEL/SEED.log    what its processes printed; a lock on it is a job's claim

A folder that holds a finished run is not run again; one that holds half a run goes on to the very
same end. The figures of finished runs may be kept in a file besides (`zoo.leaderboard_results`): a
job that it knows is not run again, whatever became of its folder. `zoo.leaderboard_table` makes its
table and pictures of the folders and the file alone.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from zoo.config import Config
from zoo.errors import RunError, UsageError, unknown_name
from zoo.interrupts import Signals
from zoo.leaderboard_results import Results
from zoo.models import MODELS, WITHOUT_EMBEDDING
from zoo.processes import claimed_log, run_to_end
from zoo.run import say
from zoo.tasks import TASKS, get_task
from zoo.workdir import Workdir


@dataclass(frozen=True)
class Job:
    """One run of a leaderboard.

    Args:
        config: what is trained, and how.
        flags: what tells `trainers/train.py` so.
        entry: what it is compared as; the model's name if left out.
        beginning: what its figures say that `config.pretrained` was, in the place of that folder,
            which may lie anywhere and tells nothing of what was learnt in it; the folder if left
            out.
    """

    config: Config
    flags: tuple[str, ...]
    entry: str = ""
    beginning: str = ""

    @property
    def known_as(self) -> Config:
        """The configuration that its figures are kept with."""
        return replace(self.config, pretrained=self.beginning or self.config.pretrained)

    @property
    def name(self) -> str:
        """What it is compared as."""
        return self.entry or self.config.model

    def __str__(self) -> str:
        """Its task, name and seed."""
        return f"{self.config.task} {self.name} seed {self.config.seed}"

    def folder(self, root: Path) -> Path:
        """Where it runs, below the leaderboard's folder.

        Example:
            >>> Job(Config(task="glue/sst2", model="bag", seed=3), ()).folder(Path("runs"))
            PosixPath('runs/glue-sst2/bag/3')
        """
        config = self.config
        return root / config.task.replace("/", "-") / self.name / str(config.seed)


def recipe(folder: Path, task: str, model: str) -> Path | None:
    """The flag file for a model on a task: its own, else the task's, else `None`."""
    name = task.replace("/", "-")
    files = (folder / f"{name}-{model}.flags", folder / f"{name}.flags")
    return next((file for file in files if file.is_file()), None)


def plan(
    tasks: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
    recipes: Path,
    read: Callable[[Sequence[str]], Config],
) -> list[Job]:
    """The jobs, one seed of everything before the next seed of anything.

    Args:
        tasks: names of tasks that have a test split; all that need no network if empty.
        models: names of models; all if empty. One that reads words alone is left out where a task
            has none.
        seeds: of the runs.
        recipes: folder of the flag files.
        read: from flags of `trainers/train.py` to the configuration that they describe.

    Raises:
        UsageError: for an unknown name, a folder of recipes that is none, a recipe that cannot
            work, or nothing to do.
    """
    tested = {name for name, task in TASKS.items() if task.test}
    tasks = tasks or [name for name, task in TASKS.items() if task.offline and name in tested]
    for name in tasks:
        if get_task(name).name not in tested:
            raise UsageError(f"--tasks={name} cannot work: it has no test split to compare on")
    for name in models:
        if name not in MODELS:
            raise unknown_name("model", name, MODELS)
    if not recipes.is_dir():  # else all would be trained by the defaults, without a word
        raise UsageError(f"--recipes={recipes} cannot work: it is no folder")
    models = models or list(MODELS)
    jobs = []
    for seed in dict.fromkeys(seeds):
        for task in dict.fromkeys(tasks):
            for model in dict.fromkeys(models):
                if get_task(task).kind != "text" and model in WITHOUT_EMBEDDING:
                    continue
                file = recipe(recipes, task, model)
                flags = [f"--flagfile={file}"] * (file is not None)
                if file and model in WITHOUT_EMBEDDING:  # a task's recipe may set them for others
                    flags += ["--word_vectors=none", "--embedding_step_rate=1"]
                flags += [f"--task={task}", f"--model={model}", f"--seed={seed}"]
                try:
                    jobs.append(Job(read(flags), tuple(flags)))
                except UsageError as error:
                    raise UsageError(f"{file or task}: {error}") from error
    if not jobs:
        raise UsageError(f"nothing to do: none of {', '.join(models)} reads {', '.join(tasks)}")
    return jobs


def refuse_begun(jobs: Sequence[Job], root: Path) -> None:
    """Makes sure that no job has begun: what is there may be another's.

    Raises:
        UsageError: if there are runs in the folder.
    """
    folders = [job.folder(root) for job in jobs]
    begun = [folder for folder in folders if folder.exists() or _log(folder).exists()]
    if begun:
        raise UsageError(
            f"{root} holds {len(begun)} of these {len(jobs)} runs: give --resume to go on with "
            "them, or another --workdir"
        )


def run(
    jobs: Sequence[Job],
    root: Path,
    train: Sequence[str],
    resume: bool,
    results: Results | None = None,
) -> list[str]:
    """Runs the jobs that are not finished, one at a time, and prints a line for each.

    A signal is passed on to the job, which saves its state; a second one kills it. A job that
    another leaderboard, or what is left of one that was killed, is at work on is put off, and
    waited for at the end.

    Args:
        jobs: what to run.
        root: the leaderboard's folder.
        train: the command that a job's flags are added to.
        resume: whether there may be runs in the folder.
        results: what is known of jobs that ran before; those that end are written there.

    Returns:
        The jobs that failed; why was printed.

    Raises:
        UsageError: if there are runs in the folder, unasked for.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM, when the job has ended.
    """
    if not resume:
        refuse_begun(jobs, root)
    failures = []
    with Signals() as signals:
        signals.patient = True
        waiting = list(enumerate(jobs, 1))
        for wait in (False, True):
            now, waiting = waiting, []
            for number, job in now:
                label = f"[{number}/{len(jobs)}] {job}"
                if results and (known := results.of(job)):
                    say(f"{label}: known, {_summary(known['figures'])}")
                    continue
                with claimed_log(_log(job.folder(root)), wait, label, signals) as log:
                    if log is None:
                        waiting.append((number, job))
                        continue
                    failure = _run_job(job, root, train, label, log, signals)
                if not failure and results:
                    results.add(job, Workdir(job.folder(root)).metrics() or {})
                if failure:
                    failures.append(str(job))
                    say(f"{label}: failed: {failure}")
    return failures


def finished(folder: Workdir) -> dict[str, Any] | None:
    """The figures of a run that has scored the test split; `None` while it has not."""
    figures = folder.metrics()
    return figures if figures is not None and "test" in figures else None


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _run_job(
    job: Job, root: Path, train: Sequence[str], label: str, log: IO[bytes], signals: Signals
) -> str | None:
    """Runs a job to its end, if it is not there; why it failed, or `None`."""
    folder = Workdir(job.folder(root))
    try:
        if (done := finished(folder)) is not None:
            if differences := folder.config().differences(job.config):
                return f"{folder.path} is of another configuration ({'; '.join(differences)})"
            _drop_checkpoints(folder)
            say(f"{label}: finished before, {_summary(done)}")
            return None
        command = [*train, *job.flags, f"--workdir={folder.path}"]
        failure = run_to_end(command, log, signals)
        signals.stop()
        if failure:
            return f"{failure} ({_log(folder.path)})"
        if (done := finished(folder)) is None:
            return f"it ended without figures ({_log(folder.path)})"
    except RunError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    _drop_checkpoints(folder)
    say(f"{label}: {_summary(done)}")
    return None


def _drop_checkpoints(folder: Workdir) -> None:
    # What resuming needs is most of what the disk would hold.
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _summary(figures: dict[str, Any]) -> str:
    accuracy = figures["test"]["accuracy"]
    return f"test accuracy {accuracy:.4f}, {figures['train_seconds']:.0f} s of training"
