"""Everything that a training run depends on, in one record that is checked when it is made."""

from dataclasses import dataclass

from zoo.errors import UsageError, unknown_name
from zoo.settings import Settings, setting
from zoo.tasks import TASKS, get_task

# The fields that `zoo.fitting` heeds; those of the data are its archive's.
FIT_FIELDS = (
    "batch_tokens",
    "model",
    "size",
    "dropout_rate",
    "word_dropout_rate",
    "recurrent_dropout_rate",
    "epochs",
    "learning_rate",
    "warmup_rate",
    "weight_decay",
    "clip_norm",
    "label_smoothing_rate",
    "average_decay",
    "calibrate",
    "select_by",
    "seed",
    "mixed_precision",
)


@dataclass(frozen=True)
class Config(Settings):
    """What is trained, on what, and how; each field is a flag of `trainers/train.py`.

    Raises:
        UsageError: naming the field as a flag, its value, and what would work.

    Example:
        >>> Config(task="movie_reviews/imdb", model="bilstm", max_length=0)
        Traceback (most recent call last):
        ...
        zoo.errors.UsageError: --max_length=0 cannot work: it must be at least 1
    """

    task: str = setting("movie_reviews/imdb", "data", f"data set to learn: {', '.join(TASKS)}")
    unit: str = setting(
        "word",
        "data",
        "what a token is; a bigram is two neighbouring characters, word pieces are those of "
        "--pretrained",
        choices=("word", "character", "bigram", "byte", "wordpiece"),
    )
    vocabulary_size: int = setting(
        20_000,
        "data",
        "token ids at most, padding and the unknown one included; not used with --unit=byte and "
        "wordpiece",
        at_least=3,
    )
    max_length: int = setting(
        256, "data", "tokens kept of a text: its head and its tail", at_least=1
    )
    batch_tokens: int = setting(
        8192,
        "data",
        "tokens (or steps) of a batch at most, padding included; a longer text is one by itself",
        at_least=0,
        instead_of="batch_size",
    )
    labelled_examples: int = setting(
        0,
        "data",
        "training examples to learn from, drawn by --seed; the texts of the others still give "
        "words to the vocabulary and --word_vectors; 0: all",
        at_least=0,
    )
    batch_size: int = setting(
        0,
        "data",
        "examples of a batch, instead of --batch_tokens",
        at_least=0,
        instead_of="batch_tokens",
    )
    model: str = setting(
        "bilstm",
        "model",
        "architecture: bag, lstm, bilstm, min_lstm, lstm_attention, transformer, nb_ngram",
    )
    size: str = setting(
        "small",
        "model",
        "small or base, for a transformer also minilm; single settings changed if need be: "
        "small,units=48,layer_norm=yes",
    )
    word_vectors: str = setting(
        "none",
        "model",
        "what the embedding begins with: random numbers, or vectors learnt from the training text",
        choices=("none", "ppmi"),
    )
    warm_start: str = setting(
        "",
        "model",
        "folder of a finished run of the same --model, --size and --unit, perhaps on another task: "
        "begin with its words and its weights",
    )
    pretrained: str = setting(
        "",
        "model",
        "what to begin with all but the last layer of: folder of a run of trainers/pretrain.py "
        "with the same --model, --size and --unit; or minilm, or the folder of a BERT in Hugging "
        "Face layout, with its --size and --unit=wordpiece",
    )
    dropout_rate: float = setting(
        0.3, "model", "share of the activations dropped in training", at_least=0, below=1
    )
    word_dropout_rate: float = setting(
        0.0, "model", "share of the words made unknown in training", at_least=0, below=1
    )
    recurrent_dropout_rate: float = setting(
        0.0,
        "model",
        "share of an LSTM's recurrent weights dropped in training",
        at_least=0,
        below=1,
    )
    epochs: int = setting(5, "optimisation", "passes over the training split", at_least=1)
    learning_rate: float = setting(
        2e-3, "optimisation", "AdamW's step size at the end of the warm-up", above=0
    )
    embedding_step_rate: float = setting(
        1.0,
        "optimisation",
        "share of each step that the embedding takes; 0 keeps the word vectors as they are",
        at_least=0,
        at_most=1,
    )
    layer_step_rate: float = setting(
        1.0,
        "optimisation",
        "share of each step that a layer takes of what the layer above it takes",
        above=0,
        at_most=1,
    )
    unfreeze_epochs: int = setting(
        0,
        "optimisation",
        "epochs until one more layer is moved at all, from the last one down; 0: all at once",
        at_least=0,
    )
    warmup_rate: float = setting(
        0.1,
        "optimisation",
        "share of the steps in which the learning rate rises, before it falls to 0 as a cosine",
        at_least=0,
        below=1,
    )
    weight_decay: float = setting(
        0.01,
        "optimisation",
        "weight decay per unit of learning rate; not for biases, norms and embeddings",
        at_least=0,
    )
    clip_norm: float = setting(
        1.0, "optimisation", "global norm to which gradients are clipped; 0: never", at_least=0
    )
    label_smoothing_rate: float = setting(
        0.0, "optimisation", "share of a label spread over all classes", at_least=0, below=1
    )
    average_decay: float = setting(
        0.998,
        "optimisation",
        "share that the running average of the weights keeps per step; 0: no averaging",
        at_least=0,
        below=1,
    )
    calibrate: bool = setting(
        True,
        "optimisation",
        "divide the logits by the temperature that is best on validation, for honest probabilities",
    )
    patience_epochs: int = setting(
        0, "optimisation", "epochs without improvement before stopping; 0: never", at_least=0
    )
    on_nan: str = setting(
        "stop",
        "optimisation",
        "what to do once loss, weights or answers are no finite numbers: end with an error, or go "
        "back to where the epoch began and on with half the step size, five times at most",
        choices=("stop", "rollback"),
    )
    select_by: str = setting(
        "accuracy",
        "optimisation",
        "validation figure by which the best epoch is chosen",
        choices=("accuracy", "log_loss"),
    )
    seed: int = setting(0, "run", "of everything random", at_least=0, at_most=2**32 - 1)
    mixed_precision: str = setting(
        "none",
        "run",
        "type of the activations in training",
        choices=("none", "bfloat16", "float16"),
    )
    strategy: str = setting(
        "none",
        "run",
        "who shares each step: this device alone, all devices of this machine, or the workers that "
        "the environment variable TF_CONFIG names",
        choices=("none", "mirrored", "multi_worker"),
    )
    checkpoint_seconds: float = setting(
        60.0,
        "run",
        "seconds between two checkpoints, or more where they would take 3 % of the time; 0: one "
        "after every step",
        at_least=0,
        free=True,
    )
    keep_checkpoints: int = setting(
        2, "run", "checkpoints kept, in case the newest one is damaged", at_least=1, free=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_start and self.pretrained:
            raise UsageError(
                f"--warm_start={self.warm_start} --pretrained={self.pretrained} cannot work: "
                "training begins with one run; leave one of them out"
            )
        if self.unit == "wordpiece" and not (self.warm_start or self.pretrained):
            raise UsageError(
                "--unit=wordpiece cannot work without --pretrained, whose pieces they are; "
                "train.py takes both"
            )
        for name in ("warm_start", "pretrained"):
            if getattr(self, name) and self.word_vectors != "none":
                raise UsageError(
                    f"--word_vectors={self.word_vectors} --{name}={getattr(self, name)} cannot "
                    "work: the run to begin with has word vectors; give --word_vectors=none"
                )
        if get_task(self.task).kind != "text":
            for name in ("word_vectors", "pretrained", "word_dropout_rate"):
                if getattr(self, name) not in ("none", "", 0):
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
            for name, unused in (
                ("word_vectors", "none"),
                ("pretrained", ""),
                ("embedding_step_rate", 1.0),
            ):
                if getattr(self, name) != unused:
                    raise UsageError(
                        f"--{name}={getattr(self, name)} cannot work: {self.model} has no "
                        "embedding; leave it out"
                    )
