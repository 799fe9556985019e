"""A pretrained BERT, in the folder layout of Hugging Face's libraries, as a Transformer of ours."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.errors import RunError, UsageError, reason
from zoo.models import TokenInputs
from zoo.models.parts import head_size
from zoo.models.transformer import CHOICES, SIZES, build_encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    # For the types alone: who converts a layer for another backend needs no TensorFlow.
    from zoo.wordpiece import WordPieceEncoder

_CONFIG, _WEIGHTS, _VOCABULARY = "config.json", "model.safetensors", "vocab.txt"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_SIZE = "minilm"
# Our numbers by BERT's names for them.
_NUMBERS = {
    "hidden_size": "embedding_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "feedforward_dim",
    "max_position_embeddings": "max_positions",
}
# What a BERT may say otherwise, and must not: name -> what we have, which is also its default.
_FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
_TOKENIZER_FIXED = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}


@dataclass(frozen=True)
class Bert:
    """A converted BERT.

    Args:
        model: from `{"ids": int32[B, T]}`, 0 being padding, to the last block's result,
            `float32[B, T, D]` with a mask; its layers are named as those of the family
            `transformer`, and carry the weights.
        tokenizer: from `string[B]` to these ids, the head of a long text kept.
        size: what `zoo.models.MODELS["transformer"]` makes a classifier of the same layers with.
    """

    model: keras.Model
    tokenizer: "WordPieceEncoder"
    size: str


def from_bert(folder: str | Path) -> Bert:
    """Reads a BERT in the folder layout of Hugging Face's libraries.

    A text is one segment here: the vector that BERT adds to all tokens of the first segment is
    added to each position's instead, which is the same. What BERT has for its pretraining, the
    pooler included, is left out.

    Source: Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding".

    Args:
        folder: holds `config.json`, `model.safetensors` and `vocab.txt`; `tokenizer_config.json`
            is heeded if it is there.

    Returns:
        The encoder with its weights, float32, its tokenizer and its size.

    Raises:
        UsageError: if a file is missing, the model is no uncased BERT or has what ours lacks, or a
            tensor is missing or of another shape; the line names it.
        RunError: if a file cannot be read, or the package safetensors is not installed.

    Example:
        >>> from zoo.convert import from_bert
        >>> bert = from_bert("folders/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> bert.model({"ids": bert.tokenizer.encode_dense(["A fine film."])})  # doctest: +SKIP
    """
    folder = Path(folder)
    config = _read_config(folder)
    size, numbers = _size(folder, config)
    tokenizer = _read_tokenizer(folder, numbers["max_positions"])
    if tokenizer.num_ids > config["vocab_size"]:
        raise UsageError(
            f"{folder / _VOCABULARY} has {tokenizer.num_ids} pieces, more than the "
            f"vocab_size={config['vocab_size']} of {_CONFIG}"
        )
    tensors = _Tensors(folder / _WEIGHTS, _read_tensors(folder / _WEIGHTS))
    weights = tensors.by_layer(numbers, config["vocab_size"], config.get("type_vocab_size", 2))
    # Rows behind the vocabulary, that round its size up, are of no token.
    weights["embedding"] = [weights["embedding"][0][: tokenizer.num_ids]]
    # After all checks: a size that is wrong may be more than there is memory for.
    inputs = TokenInputs(tokenizer.num_ids, unknown_id=tokenizer.unknown_id)
    model = build_encoder(inputs, size=size)
    for layer, arrays in weights.items():
        model.get_layer(layer).set_weights(arrays)
    return Bert(model, tokenizer, size)


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: give one with {_CONFIG} and {_WEIGHTS}")
    for name in (_CONFIG, _VOCABULARY, _WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(f"{folder} holds no pretrained BERT: {name} is missing")
    config = _read_json(folder / _CONFIG)
    if config.get("model_type") != "bert":
        raise UsageError(
            f"{folder / _CONFIG} is of model_type={config.get('model_type')!r}, not 'bert'"
        )
    _refuse_other(folder / _CONFIG, config, _FIXED)
    for name in (*_NUMBERS, "vocab_size"):
        if type(config.get(name)) is not int or config[name] < 1:
            raise UsageError(f"{folder / _CONFIG} has {name}={config.get(name)!r}, not a number")
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} cannot be read: it is no JSON object")
    return content


def _refuse_other(path: Path, found: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for name, value in fixed.items():
        if found.get(name, value) not in (value, None):
            raise UsageError(f"{path} has {name}={found[name]!r}, which ours lacks: only {value!r}")


def _size(folder: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """The size that makes a Transformer of ours the BERT of a configuration, and its numbers."""
    numbers = {ours: config[theirs] for theirs, ours in _NUMBERS.items()}
    chosen: dict[str, Any] = {**numbers, "feedforward": config.get("hidden_act", "gelu")}
    epsilon = config.get("layer_norm_eps", 1e-12)
    known = {float(word): word for word in CHOICES["epsilon"]}
    if epsilon not in known:
        raise UsageError(
            f"{folder / _CONFIG} has layer_norm_eps={epsilon!r}, which ours lacks: only "
            f"{', '.join(CHOICES['epsilon'])}"
        )
    chosen["epsilon"] = known[epsilon]
    if chosen["feedforward"] not in ("gelu", "relu"):
        raise UsageError(
            f"{folder / _CONFIG} has hidden_act={chosen['feedforward']!r}, which ours lacks: only "
            "gelu, relu"
        )
    try:
        head_size(numbers["embedding_dim"], numbers["num_heads"])
    except ValueError as error:
        raise UsageError(f"{folder / _CONFIG}: {error}") from error
    changes = [f"{name}={value}" for name, value in chosen.items() if value != SIZES[_SIZE][name]]
    return ",".join([_SIZE, *changes]), numbers


def _read_tokenizer(folder: Path, max_length: int) -> "WordPieceEncoder":
    from zoo.text import WORDPIECE, TextSettings
    from zoo.wordpiece import WordPieceEncoder

    path = folder / _TOKENIZER_CONFIG
    if path.is_file():
        _refuse_other(path, _read_json(path), _TOKENIZER_FIXED)
    path = folder / _VOCABULARY
    try:
        # One piece a line; a piece may be a character that Python takes for a line's end.
        lines = path.read_text("utf-8").replace("\r\n", "\n").split("\n")
        pieces = lines[:-1] if lines[-1] == "" else lines
        settings = TextSettings(WORDPIECE, max_length=max_length)
        return WordPieceEncoder(pieces, settings, keep_tail=False)
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {reason(error)}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        message = "pip install 'sequence-zoo[bert]' brings safetensors, which reads the weights"
        raise RunError(message) from error
    try:
        return load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {reason(error)}") from error


class _Tensors:
    """The tensors of a file, each checked when it is taken."""

    def __init__(self, path: Path, tensors: Mapping[str, np.ndarray]) -> None:
        self._path = path
        # A BERT that was saved with what it was pretrained by has a name of its own.
        inner = any(name.startswith("bert.") for name in tensors)
        self._prefix = "bert." if inner else ""
        self._tensors = tensors

    def take(self, name: str, *shape: int) -> np.ndarray:
        """A tensor, `float32[shape]`."""
        name = self._prefix + name
        if name not in self._tensors:
            raise UsageError(f"{self._path} lacks the tensor {name!r}")
        found = self._tensors[name]
        if found.shape != shape:
            raise UsageError(f"{self._path} has {name!r} of shape {found.shape}, not {shape}")
        return found.astype("float32")

    def by_layer(
        self, numbers: Mapping[str, int], vocab_size: int, num_segments: int
    ) -> dict[str, list[np.ndarray]]:
        """The weights of an encoder's layers, by the layer's name, as `set_weights` takes them."""
        width = numbers["embedding_dim"]
        words = self.take("embeddings.word_embeddings.weight", vocab_size, width)
        places = self.take("embeddings.position_embeddings.weight", numbers["max_positions"], width)
        segments = self.take("embeddings.token_type_embeddings.weight", num_segments, width)
        weights = {"embedding": [words], "positions": [places + segments[0]]}
        weights["embedding_norm"] = self._norm("embeddings.LayerNorm", width)
        for number in range(numbers["num_layers"]):
            weights[f"block_{number}"] = self._block(f"encoder.layer.{number}", numbers)
        return weights

    def _norm(self, name: str, width: int) -> list[np.ndarray]:
        return [self.take(f"{name}.{which}", width) for which in ("weight", "bias")]

    def _dense(self, name: str, inputs: int, outputs: int) -> list[np.ndarray]:
        kernel = self.take(f"{name}.weight", outputs, inputs).T  # float32[inputs, outputs]
        return [kernel, self.take(f"{name}.bias", outputs)]

    def _block(self, name: str, numbers: Mapping[str, int]) -> list[np.ndarray]:
        """The weights of a `TransformerBlock`, in its order."""
        width, inner = numbers["embedding_dim"], numbers["feedforward_dim"]
        heads = numbers["num_heads"]
        size = width // heads
        weights = []
        for side in ("query", "key", "value"):
            kernel, bias = self._dense(f"{name}.attention.self.{side}", width, width)
            weights += [kernel.reshape(width, heads, size), bias.reshape(heads, size)]
        kernel, bias = self._dense(f"{name}.attention.output.dense", width, width)
        weights += [kernel.reshape(heads, size, width), bias]
        weights += self._dense(f"{name}.intermediate.dense", width, inner)
        weights += self._dense(f"{name}.output.dense", inner, width)
        weights += self._norm(f"{name}.attention.output.LayerNorm", width)
        weights += self._norm(f"{name}.output.LayerNorm", width)
        return weights
