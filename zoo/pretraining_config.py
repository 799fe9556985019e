"""Everything that a run of pretraining depends on, in one record that checks itself."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from zoo.config import Config
from zoo.errors import UsageError
from zoo.settings import Settings, setting
from zoo.tasks import get_task


def _as_in_training(name: str, default: Any = None) -> Any:
    """The field of that name of `Config`, perhaps with another default."""
    known = next(field for field in fields(Config) if field.name == name)
    rules = dict(known.metadata)
    return setting(
        known.default if default is None else default,
        rules.pop("group"),
        rules.pop("help"),
        **rules,
    )


@dataclass(frozen=True)
class PretrainingConfig(Settings):
    """What learns to tell words, of which texts, and how; a flag of `trainers/pretrain.py` each.

    Raises:
        UsageError: naming the field as a flag, its value, and what would work.

    Example:
        >>> PretrainingConfig(tasks="tweets", model="lstm")
        Traceback (most recent call last):
        ...
        zoo.errors.UsageError: --model=lstm --size=small: it reads forward alone; give \
--objective=causal
    """

    tasks: str = setting(
        "", "data", "tasks whose training texts are read, with commas between them"
    )
    text_files: str = setting(
        "",
        "data",
        "files of one text a line, as a shell's patterns with commas between them; one line in "
        "twenty, as its bytes decide, is kept for validation",
    )
    unit: str = _as_in_training("unit")
    vocabulary_size: int = _as_in_training("vocabulary_size")
    max_length: int = _as_in_training("max_length")
    batch_tokens: int = _as_in_training("batch_tokens")
    batch_size: int = _as_in_training("batch_size")
    model: str = _as_in_training("model")
    size: str = _as_in_training("size")
    word_vectors: str = _as_in_training("word_vectors")
    dropout_rate: float = _as_in_training("dropout_rate", 0.1)
    recurrent_dropout_rate: float = _as_in_training("recurrent_dropout_rate")
    objective: str = setting(
        "masked",
        "objective",
        "what is learnt: words that are hidden, or the next word (and, in half of a bilstm, the "
        "one before)",
        choices=("masked", "causal"),
    )
    mask_rate: float = setting(
        0.2, "objective", "share of the words asked for by --objective=masked", above=0, below=1
    )
    sampled_words: int = setting(
        1024, "objective", "words that each right one is held against in training", at_least=1
    )
    epochs: int = _as_in_training("epochs")
    learning_rate: float = _as_in_training("learning_rate", 3e-3)
    embedding_step_rate: float = _as_in_training("embedding_step_rate")
    warmup_rate: float = _as_in_training("warmup_rate")
    weight_decay: float = _as_in_training("weight_decay")
    clip_norm: float = _as_in_training("clip_norm")
    average_decay: float = _as_in_training("average_decay")
    patience_epochs: int = _as_in_training("patience_epochs")
    on_nan: str = _as_in_training("on_nan")
    seed: int = _as_in_training("seed")
    mixed_precision: str = _as_in_training("mixed_precision")
    strategy: str = _as_in_training("strategy")
    checkpoint_seconds: float = _as_in_training("checkpoint_seconds")
    keep_checkpoints: int = _as_in_training("keep_checkpoints")

    labelled_examples: ClassVar[int] = 0
    select_by: ClassVar[str] = "log_loss"
    layer_step_rate: ClassVar[float] = 1.0
    unfreeze_epochs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit == "wordpiece":
            raise UsageError("--unit=wordpiece cannot work: word pieces are a pretrained model's")
        for name in self.task_names:
            if get_task(name).kind != "text":
                raise UsageError(f"--tasks={self.tasks} cannot work: {name} has no words")
        if not self.task_names and not self.patterns:
            raise UsageError("--tasks= --text_files= cannot work: give one of them, or both")
        # As any run does, which builds the classifier that it pretrains.
        first = self.task_names[0] if self.task_names else Config().task
        Config(task=first, model=self.model)
        # Last, and here alone: it takes seconds to import keras.
        from zoo.models.words import objective_words

        try:
            objective_words(self.model, self.size, self.objective)
        except ValueError as error:
            raise UsageError(f"--model={self.model} --size={self.size}: {error}") from error

    @property
    def task_names(self) -> list[str]:
        """The tasks, each once."""
        return list(dict.fromkeys(name for name in self.tasks.split(",") if name))

    @property
    def patterns(self) -> list[str]:
        """The patterns of file names, one by one."""
        return [pattern for pattern in self.text_files.split(",") if pattern]

    @property
    def task(self) -> str:
        """What is read, in a word or two."""
        return " and ".join(filter(None, (self.tasks, self.text_files)))
