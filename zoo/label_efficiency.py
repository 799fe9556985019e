"""What pretraining buys: accuracy by the number of labelled examples, from several beginnings.

    scratch         the task's recipe, its words' vectors random
    word_vectors    the same, the vectors learnt from the task's training texts (`zoo.vectors`)
    language_model  the same, all layers but the last having told words of these texts before
                    (`zoo.pretraining`, in which they began with such vectors)
    minilm          the task's recipe for a Transformer that was pretrained on other texts

All of them know all training texts, and as many labels as are asked for; the words are pretrained
once a task, for all numbers of labels and all seeds. Runs are jobs of `zoo.leaderboard`;
`zoo.label_efficiency_table` makes a table and a picture of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.config import Config
from zoo.errors import RunError, UsageError, unknown_name
from zoo.interrupts import Signals
from zoo.leaderboard import Job
from zoo.leaderboard_results import Results
from zoo.processes import claimed_log, run_to_end
from zoo.run import say
from zoo.tasks import get_task

STARTS = ("scratch", "word_vectors", "language_model", "minilm")


@dataclass(frozen=True)
class Labels:
    """How many examples have labels, and how often more than in the recipe they are seen.

    Args:
        examples: how many; 0 for all.
        times: what the recipe's epochs are multiplied by.
    """

    examples: int
    times: int

    @classmethod
    def parse(cls, text: str) -> "Labels":
        """Reads `EXAMPLES:TIMES`, where `all` is as many as there are.

        Raises:
            UsageError: if it is none.

        Example:
            >>> Labels.parse("500:4"), Labels.parse("all:1")
            (Labels(examples=500, times=4), Labels(examples=0, times=1))
        """
        examples, _, times = text.partition(":")
        if examples == "all":
            examples = "0"
        elif examples.strip("0") == "":
            examples = ""
        if not all(part.isascii() and part.isdigit() for part in (examples, times)) or times == "0":
            raise UsageError(
                f"--labelled_examples={text} cannot work: give how many, and how often the "
                "recipe's epochs, as in 100:8,500:4,all:1"
            )
        return cls(int(examples), int(times))

    def __str__(self) -> str:
        """The number, or `all`."""
        return f"{self.examples:,}" if self.examples else "all"


def read_word_epochs(texts: Sequence[str]) -> dict[str, int]:
    """Reads `EPOCHS`, of any task, and `TASK:EPOCHS`, of one that has more text than others.

    Returns:
        The epochs by task; those of any task by the empty name.

    Raises:
        UsageError: if that is no such list.

    Example:
        >>> read_word_epochs(["10", "movie_reviews/imdb:2"])
        {'': 10, 'movie_reviews/imdb': 2}
    """
    pairs = [text.rpartition(":") for text in texts]
    epochs = {task: int(number) for task, _, number in pairs if number.isdecimal()}
    if len(epochs) < len(texts) or "" not in epochs or not all(epochs.values()):
        raise UsageError(
            f"--word_epochs={','.join(texts)} cannot work: give a number, and perhaps others of "
            "single tasks, as in 10,movie_reviews/imdb:2"
        )
    for task in epochs.keys() - {""}:
        get_task(task)
    return epochs


@dataclass(frozen=True)
class Words:
    """A run of `trainers/pretrain.py` that others begin with.

    Args:
        folder: where it runs.
        flags: what tells that program what to do.
    """

    folder: Path
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One place of the table.

    Args:
        task: on what.
        start: one of `STARTS`.
        labels: how many.
    """

    task: str
    start: str
    labels: Labels

    @property
    def name(self) -> str:
        """What the leaderboard calls it."""
        return f"{self.start}-{self.labels.examples or 'all'}"


def plan(
    tasks: Sequence[str],
    starts: Sequence[str],
    labels: Sequence[Labels],
    word_epochs: Mapping[str, int],
    seeds: Sequence[int],
    recipes: Path,
    root: Path,
    read: Callable[[Sequence[str]], Config],
) -> tuple[list[Cell], list[Words], list[Job]]:
    """What is to run: first the words, then the jobs, one seed of everything before the next.

    Args:
        tasks: with a recipe `TASK.flags`; for `minilm`, with `TASK-minilm.flags` besides.
        starts: of `STARTS`; all if empty, but `minilm`, which has read English, for no task without
            a recipe for it.
        labels: how many examples have some.
        word_epochs: how often each text is read before, by `read_word_epochs`.
        seeds: of the runs.
        recipes: folder of the flag files.
        root: folder of the runs.
        read: from flags of `trainers/train.py` to the configuration that they describe.

    Returns:
        The places of the table, the runs that others begin with, and the jobs.

    Raises:
        UsageError: for an unknown name, a number of labels given twice, a recipe that is missing
            or cannot work, or nothing to do.
    """
    if len({one.examples for one in labels}) < len(set(labels)):
        given = ",".join(f"{one.examples or 'all'}:{one.times}" for one in labels)
        # Both would be one folder's runs, and one place of the table.
        raise UsageError(f"--labelled_examples={given} cannot work: give each number once")
    for start in starts:
        if start not in STARTS:
            raise unknown_name("start", start, STARTS)
    cells, words, jobs = list[Cell](), dict[str, Words](), list[Job]()
    for task in dict.fromkeys(tasks):
        if get_task(task).kind != "text" or not get_task(task).test:
            raise UsageError(f"--tasks={task} cannot work: give tasks of texts with a test split")
        has_minilm = _recipe(recipes, task, "minilm").is_file()
        here = starts or [start for start in STARTS if start != "minilm" or has_minilm]
        cells += [Cell(task, s, n) for s in dict.fromkeys(here) for n in dict.fromkeys(labels)]
    if not cells:
        empty = "labelled_examples" if tasks else "tasks"
        raise UsageError(f"nothing to do: --{empty}= is empty")
    for seed in dict.fromkeys(seeds):
        for cell in cells:
            file = _recipe(recipes, cell.task, cell.start)
            if not file.is_file():
                raise UsageError(f"--starts={cell.start} cannot work: there is no {file}")
            flags, beginning = [f"--flagfile={file}"], ""
            base = read(flags)
            if cell.start != "minilm":
                flags.append(f"--word_vectors={'ppmi' if cell.start == 'word_vectors' else 'none'}")
            if cell.start == "scratch":
                flags.append("--embedding_step_rate=1")
            if cell.start == "language_model":
                epochs = word_epochs.get(cell.task, word_epochs[""])
                folder = root / cell.task.replace("/", "-") / f"words-{epochs}"
                words[cell.task] = Words(folder, _words_flags(base, epochs))
                flags.append(f"--pretrained={folder}")
                beginning = f"trainers/pretrain.py {' '.join(words[cell.task].flags)}"
            flags += [
                f"--epochs={base.epochs * cell.labels.times}",
                f"--labelled_examples={cell.labels.examples}",
                f"--seed={seed}",
            ]
            jobs.append(Job(read(flags), tuple(flags), cell.name, beginning))
    return cells, list(words.values()), jobs


def _recipe(recipes: Path, task: str, start: str) -> Path:
    name = task.replace("/", "-")
    return recipes / (f"{name}-minilm.flags" if start == "minilm" else f"{name}.flags")


def _words_flags(config: Config, epochs: int) -> tuple[str, ...]:
    same = ["model", "size", "unit", "vocabulary_size", "max_length", "batch_tokens", "batch_size"]
    return (
        f"--tasks={config.task}",
        *(f"--{name}={getattr(config, name)}" for name in same),
        "--word_vectors=ppmi",
        "--objective=causal",
        f"--epochs={epochs}",
        "--seed=0",
    )


def pretrain(
    words: Sequence[Words],
    jobs: Sequence[Job],
    command: Sequence[str],
    results: Results | None = None,
) -> None:
    """Runs what others begin with; what is finished, or no more needed, is not run again.

    Args:
        words: the runs.
        jobs: that begin with them.
        command: the program, which their flags are added to.
        results: what is known of jobs that ran before.

    Raises:
        RunError: if one fails.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM, when the run has saved its state.
    """
    with Signals() as signals:
        signals.patient = True
        for one in words:
            begun = [job for job in jobs if job.config.pretrained == str(one.folder)]
            if results and all(results.of(job) for job in begun):
                continue
            label = " ".join(["words of", *(flag[8:] for flag in one.flags[:1])])
            path = one.folder.with_name(f"{one.folder.name}.log")
            with claimed_log(path, True, label, signals) as log:
                assert log is not None
                full = [*command, *one.flags, f"--workdir={one.folder}"]
                failure = run_to_end(full, log, signals)
                signals.stop()
                if failure:
                    raise RunError(f"{label}: failed: {failure} ({path})")
            say(f"{label}: learnt")
