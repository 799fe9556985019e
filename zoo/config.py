"""Everything that a training run depends on, in one record that is checked when it is made.

A field's metadata hold its help, with the unit, its group and its bounds; the flags of
`trainers/train.py` are made of them, so that a flag and its check cannot drift apart.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import UsageError, unknown_name
from zoo.tasks import TASKS, get_task

# What TensorFlow counts steps and sizes in has 32 bits.
_MOST = 2**31 - 1


def _field(default: Any, group: str, about: str, **rules: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": about, "group": group, **rules})


@dataclass(frozen=True)
class Config:
    """What is trained, on what, and how; each field is a flag of `trainers/train.py`.

    Raises:
        UsageError: naming the field as a flag, its value, and what would work.

    Example:
        >>> Config(task="movie_reviews/imdb", model="bilstm", max_length=0)
        Traceback (most recent call last):
        ...
        zoo.errors.UsageError: --max_length=0 cannot work: it must be at least 1
    """

    task: str = _field("movie_reviews/imdb", "data", f"data set to learn: {', '.join(TASKS)}")
    unit: str = _field(
        "word",
        "data",
        "what a token is; a bigram is two neighbouring characters",
        choices=("word", "character", "bigram", "byte"),
    )
    vocabulary_size: int = _field(
        20_000,
        "data",
        "token ids at most, padding and the unknown one included; not used with --unit=byte",
        at_least=3,
    )
    max_length: int = _field(
        256, "data", "tokens kept of a text: its head and its tail", at_least=1
    )
    batch_tokens: int = _field(
        8192,
        "data",
        "tokens (or steps) of a batch at most, padding included; a longer text is one by itself",
        at_least=0,
        instead_of="batch_size",
    )
    batch_size: int = _field(
        0,
        "data",
        "examples of a batch, instead of --batch_tokens",
        at_least=0,
        instead_of="batch_tokens",
    )
    model: str = _field(
        "bilstm",
        "model",
        "architecture: bag, lstm, bilstm, min_lstm, lstm_attention, transformer, nb_ngram",
    )
    size: str = _field(
        "small",
        "model",
        "small or base, single settings changed if need be: small,units=48,layer_norm=yes",
    )
    word_vectors: str = _field(
        "none",
        "model",
        "what the embedding begins with: random numbers, or vectors learnt from the training text",
        choices=("none", "ppmi"),
    )
    warm_start: str = _field(
        "",
        "model",
        "folder of a finished run of the same --model, --size and --unit, perhaps on another task: "
        "begin with its words and its weights",
    )
    dropout_rate: float = _field(
        0.3, "model", "share of the activations dropped in training", at_least=0, below=1
    )
    word_dropout_rate: float = _field(
        0.0, "model", "share of the words made unknown in training", at_least=0, below=1
    )
    recurrent_dropout_rate: float = _field(
        0.0,
        "model",
        "share of an LSTM's recurrent weights dropped in training",
        at_least=0,
        below=1,
    )
    epochs: int = _field(5, "optimisation", "passes over the training split", at_least=1)
    learning_rate: float = _field(
        2e-3, "optimisation", "AdamW's step size at the end of the warm-up", above=0
    )
    embedding_step_rate: float = _field(
        1.0,
        "optimisation",
        "share of each step that the embedding takes; 0 keeps the word vectors as they are",
        at_least=0,
        at_most=1,
    )
    warmup_rate: float = _field(
        0.1,
        "optimisation",
        "share of the steps in which the learning rate rises, before it falls to 0 as a cosine",
        at_least=0,
        below=1,
    )
    weight_decay: float = _field(
        0.01,
        "optimisation",
        "weight decay per unit of learning rate; not for biases, norms and embeddings",
        at_least=0,
    )
    clip_norm: float = _field(
        1.0, "optimisation", "global norm to which gradients are clipped; 0: never", at_least=0
    )
    label_smoothing_rate: float = _field(
        0.0, "optimisation", "share of a label spread over all classes", at_least=0, below=1
    )
    average_decay: float = _field(
        0.998,
        "optimisation",
        "share that the running average of the weights keeps per step; 0: no averaging",
        at_least=0,
        below=1,
    )
    calibrate: bool = _field(
        True,
        "optimisation",
        "divide the logits by the temperature that is best on validation, for honest probabilities",
    )
    patience_epochs: int = _field(
        0, "optimisation", "epochs without improvement before stopping; 0: never", at_least=0
    )
    select_by: str = _field(
        "accuracy",
        "optimisation",
        "validation figure by which the best epoch is chosen",
        choices=("accuracy", "log_loss"),
    )
    seed: int = _field(0, "run", "of everything random", at_least=0, at_most=2**32 - 1)
    mixed_precision: str = _field(
        "none",
        "run",
        "type of the activations in training",
        choices=("none", "bfloat16", "float16"),
    )
    checkpoint_seconds: float = _field(
        60.0, "run", "seconds between two checkpoints; 0: after every step", at_least=0, free=True
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if (self.batch_tokens > 0) == (self.batch_size > 0):
            raise UsageError(
                f"--batch_tokens={self.batch_tokens} --batch_size={self.batch_size} cannot work: "
                "exactly one of them must be above 0, so give the other one as 0"
            )
        if self.warm_start and self.word_vectors != "none":
            raise UsageError(
                f"--word_vectors={self.word_vectors} --warm_start={self.warm_start} cannot work: "
                "the run to begin with has word vectors; give --word_vectors=none"
            )
        if get_task(self.task).kind != "text":
            for name in ("word_vectors", "word_dropout_rate"):
                if getattr(self, name) not in ("none", 0):
                    raise UsageError(
                        f"--{name}={getattr(self, name)} cannot work: {self.task} has no words; "
                        f"leave it out"
                    )
        # Last, and here alone: it takes seconds to import keras.
        from zoo.models import MODELS, WITHOUT_EMBEDDING

        if self.model not in MODELS:
            raise unknown_name("model", self.model, MODELS)
        if self.model in WITHOUT_EMBEDDING:
            if get_task(self.task).kind != "text":
                raise UsageError(
                    f"--model={self.model} cannot work: {self.task} has no words to count; "
                    "choose another one"
                )
            for name, unused in (("word_vectors", "none"), ("embedding_step_rate", 1.0)):
                if getattr(self, name) != unused:
                    raise UsageError(
                        f"--{name}={getattr(self, name)} cannot work: {self.model} has no "
                        "embedding; leave it out"
                    )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them.

        Example:
            >>> Config.from_json(Config(seed=3).to_json()) == Config(seed=3)
            True
        """
        return dataclasses.asdict(self)

    def to_flags(self) -> list[str]:
        """What tells `trainers/train.py` so: the fields that are not what they are by default.

        Example:
            >>> Config(task="tweets", batch_tokens=0, batch_size=32).to_flags()
            ['--task=tweets', '--batch_tokens=0', '--batch_size=32']
        """
        return [
            f"--{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """The configuration that `to_json` gave; what it lacks has its default.

        Raises:
            UsageError: for a field that is unknown, or a value that cannot work.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise unknown_name("field", name, names)
        return cls(**values)

    def differences(self, other: "Config") -> list[str]:
        """How a run with `other` would come to another result, one line a field.

        Example:
            >>> Config(batch_tokens=4096).differences(Config(checkpoint_seconds=5.0))
            ['batch_tokens: 4096 there, 8192 asked']
        """
        return [
            f"{field.name}: {getattr(self, field.name)} there, {getattr(other, field.name)} asked"
            for field in dataclasses.fields(self)
            if not field.metadata.get("free")
            and getattr(self, field.name) != getattr(other, field.name)
        ]


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """The value as its field's type, or a `UsageError`."""
    flag = f"--{field.name}={value}"
    if field.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not field.type:
        raise UsageError(
            f"{flag} cannot work: it must be of type {getattr(field.type, '__name__', field.type)}"
        )
    if isinstance(value, str):
        choices = field.metadata.get("choices")
        if choices and value not in choices:
            raise unknown_name(field.name, value, choices)
        return value
    rules = field.metadata
    if field.type is int and "at_most" not in rules and value > _MOST:
        raise UsageError(f"{flag} cannot work: it must be at most {_MOST}")
    bounds = {
        "at least": ("at_least", lambda limit: value >= limit),
        "at most": ("at_most", lambda limit: value <= limit),
        "above": ("above", lambda limit: value > limit),
        "below": ("below", lambda limit: value < limit),
    }
    wanted = [f"{words} {rules[key]}" for words, (key, _) in bounds.items() if key in rules]
    holds = all(check(rules[key]) for key, check in bounds.values() if key in rules)
    if not holds or not math.isfinite(value):
        raise UsageError(f"{flag} cannot work: it must be {' and '.join(wanted) or 'finite'}")
    return value
