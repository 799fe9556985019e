"""A folder like that of a pretrained BERT, small and of random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

# Every dimension is its own prime, but for a width that heads share.
TINY = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "hidden_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 11,
    "max_position_embeddings": 13,
    "type_vocab_size": 3,
    "vocab_size": 19,
}
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "un", "##want", "##ed")


def write_tiny(
    folder: Path,
    config: dict = TINY,
    pieces: tuple[str, ...] = PIECES,
    change: Callable[[dict], object] | None = None,
    prefix: str = "",
) -> Path:
    """Writes the folder.

    Args:
        folder: made if it is missing.
        config: the contents of `config.json`, from which the tensors' shapes follow.
        pieces: the vocabulary.
        change: what is done to the tensors, by name, before they are written.
        prefix: what stands before the tensors' names.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(0)
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        dense = {f"attention.self.{side}": (width, width) for side in ("query", "key", "value")}
        dense |= {"attention.output.dense": (width, width), "intermediate.dense": (inner, width)}
        dense |= {"output.dense": (width, inner)}
        for name, shape in dense.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": (width,), f"{layer}.{name}.bias": (width,)}
    tensors = {n: rng.normal(size=shape).astype("float32") for n, shape in shapes.items()}
    if change:
        change(tensors)
    folder.mkdir(exist_ok=True)
    save_file({prefix + n: t for n, t in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), "utf-8")
    return folder
