"""Whole models, saved with Keras's layers or with ours, loaded with the other ones.

Keras's `load_model` looks its own classes up by their module, whatever `custom_objects` says of
them; so the names are changed in the file's description, and all else stays as it was.
"""

import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import keras

from zoo import layers
from zoo.errors import reason

# What stands in each other's place: the same arguments, weights and results.
_NAMES = ("LSTM", "LSTMCell", "MultiHeadAttention")
_DESCRIPTION = "config.json"


def load_model(
    path: str | Path, to: Literal["zoo", "keras"] = "zoo", **options: Any
) -> keras.Model:
    """Loads a `.keras` file with our layers in the place of Keras's, or the other way round.

    Args:
        path: a file that `model.save` wrote, with layers of either kind.
        to: whose `LSTM`, `LSTMCell` and `MultiHeadAttention` to load it with.
        **options: those of `keras.saving.load_model`: `custom_objects`, `compile`, `safe_mode`.

    Returns:
        The model, its weights and its optimizer's state as they were saved.

    Raises:
        ValueError: if `to` is neither, the file is no `.keras` file, or a layer of it has an option
            that Keras's lacks.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.keras")
        ...     type(load_model(f"{folder}/model.keras").layers[0]).__module__
        'zoo.layers.lstm'
    """
    if to not in ("zoo", "keras"):
        raise ValueError(f"argument `to` must be 'zoo' or 'keras', not {to!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .keras file, as model.save('model.keras') writes one")
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder, "model.keras")
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
            for item in source.infolist():
                content = source.read(item)
                if item.filename == _DESCRIPTION:
                    content = json.dumps(_renamed(json.loads(content), to)).encode()
                target.writestr(item, content)
        return keras.saving.load_model(changed, **options)


def _renamed(description: Any, to: str) -> Any:
    for node in _nodes(description):
        name, of_keras = node["class_name"], node.get("module") == "keras.layers"
        if name not in _NAMES or not (of_keras or node.get("registered_name") == f"zoo>{name}"):
            continue
        if to == "zoo":
            cls = getattr(layers, name)
            node |= {"module": cls.__module__, "registered_name": f"zoo>{name}"}
            continue
        try:
            getattr(keras.layers, name).from_config(node["config"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"layer {node['config'].get('name')!r} is nothing that keras.layers.{name} can be: "
                f"{reason(error)}"
            ) from error
        node |= {"module": "keras.layers", "registered_name": None}
    return description


def _nodes(description: Any) -> Iterator[dict]:
    """Every object of a description, those within it before it."""
    if isinstance(description, dict):
        for value in description.values():
            yield from _nodes(value)
        if "class_name" in description and "config" in description:
            yield description
    elif isinstance(description, list):
        for value in description:
            yield from _nodes(value)
