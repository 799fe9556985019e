"""Which data sets the zoo classifies; a new task is one record."""

from dataclasses import dataclass
from typing import Literal

from zoo.errors import unknown_name


@dataclass(frozen=True)
class Task:
    """A TensorFlow Datasets data set, read as a classification task.

    Args:
        name: what `--task` takes.
        builder: the data set's name, with its configuration.
        version: the version that the task is pinned to.
        feature: key of the text, or of the track of features, in an example.
        label: key of the class in an example.
        classes: the classes' names in the order of their numbers.
        train: TFDS split expression.
        validation: the same; cut from the training data where TFDS has no split of its own.
        test: the same, or `None` where no labelled test data exist.
        kind: `"text"`, or `"features"` for tracks `float32[T, D]`.
        offline: whether `datasets/` prepares it without a network.
        holds_test_of: tasks whose test texts are among its texts.
    """

    name: str
    builder: str
    version: str
    feature: str
    label: str
    classes: tuple[str, ...]
    train: str
    validation: str
    test: str | None
    kind: Literal["text", "features"] = "text"
    offline: bool = False
    holds_test_of: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, str]:
        """TFDS split expressions by the names that this project uses."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


_SENTIMENT = ("negative", "positive")

_ALL = (
    Task(
        name="imdb_reviews",
        builder="imdb_reviews/plain_text",
        version="1.0.0",
        feature="text",
        label="label",
        classes=_SENTIMENT,
        train="train[:90%]",
        validation="train[90%:]",
        test="test",
    ),
    Task(
        name="ag_news_subset",
        builder="ag_news_subset",
        version="1.0.0",
        feature="description",
        label="label",
        classes=("world", "sports", "business", "science and technology"),
        train="train[:95%]",
        validation="train[95%:]",
        test="test",
    ),
    Task(
        name="glue/sst2",
        builder="glue/sst2",
        version="2.0.0",
        feature="sentence",
        label="label",
        classes=_SENTIMENT,
        # The labels of TFDS's test split are withheld (-1), so its validation split is the test.
        train="train[:98%]",
        validation="train[98%:]",
        test="validation",
    ),
    Task(
        name="yelp_polarity_reviews",
        builder="yelp_polarity_reviews",
        version="0.2.0",
        feature="text",
        label="label",
        classes=_SENTIMENT,
        train="train[:98%]",
        validation="train[98%:]",
        test="test",
    ),
    Task(
        name="movie_reviews/imdb",
        builder="movie_reviews/imdb",
        version="1.0.0",
        feature="text",
        label="label",
        classes=_SENTIMENT,
        train="train",
        validation="validation",
        test="test",
        offline=True,
    ),
    Task(
        name="movie_reviews/rotten_tomatoes",
        builder="movie_reviews/rotten_tomatoes",
        version="1.0.0",
        feature="text",
        label="label",
        classes=_SENTIMENT,
        train="train",
        validation="validation",
        test="test",
        offline=True,
    ),
    Task(
        name="movie_reviews/rotten_tomatoes_all",
        builder="movie_reviews/rotten_tomatoes_all",
        version="1.0.0",
        feature="text",
        label="label",
        classes=_SENTIMENT,
        train="train",
        validation="validation",
        test=None,
        offline=True,
        holds_test_of=("movie_reviews/rotten_tomatoes",),
    ),
    Task(
        name="chinese_reviews",
        builder="chinese_reviews",
        version="1.0.0",
        feature="text",
        label="label",
        classes=_SENTIMENT,
        train="train",
        validation="validation",
        test="test",
        offline=True,
    ),
    Task(
        name="tweets",
        builder="tweets",
        version="1.0.0",
        feature="text",
        label="label",
        classes=("negative", "neutral", "positive"),
        train="train",
        validation="validation",
        test="test",
        offline=True,
    ),
    Task(
        name="japanese_vowels",
        builder="japanese_vowels",
        version="1.0.0",
        feature="track",
        label="label",
        classes=tuple(f"speaker_{number}" for number in range(1, 10)),
        train="train",
        validation="validation",
        test="test",
        kind="features",
        offline=True,
    ),
    Task(
        name="basic_motions",
        builder="basic_motions",
        version="1.0.0",
        feature="track",
        label="label",
        classes=("standing", "running", "walking", "badminton"),
        train="train",
        validation="validation",
        test="test",
        kind="features",
        offline=True,
    ),
    Task(
        name="listops/short",
        builder="listops/short",
        version="1.0.0",
        feature="text",
        label="label",
        classes=tuple("0123456789"),
        train="train",
        validation="validation",
        test="test",
        offline=True,
    ),
    Task(
        name="listops/lra",
        builder="listops/lra",
        version="1.0.0",
        feature="text",
        label="label",
        classes=tuple("0123456789"),
        train="train",
        validation="validation",
        test="test",
        offline=True,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        UsageError: if there is none, with the nearest name.

    Example:
        >>> get_task("movie_reviews/imdb").classes
        ('negative', 'positive')
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
