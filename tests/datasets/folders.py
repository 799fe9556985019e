"""What the tests of the folders in datasets/ share."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

DATASETS = Path(__file__).parents[2] / "datasets"
INSTALL = "pip install --no-deps --require-hashes -r datasets/requirements.txt"


def load(folder, name):
    """A file of a folder in datasets/, which is no package; `folder` "" is datasets/ itself."""
    spec = importlib.util.spec_from_file_location(name, DATASETS / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def real(find):
    """What `find` finds in an installed package."""
    try:
        return find()
    except FileNotFoundError as error:
        if "CI" in os.environ:  # there the package is installed, or an install step is missing
            raise
        pytest.skip(str(error))


def is_pinned(package):
    """Whether datasets/requirements.txt has that version and its hash."""
    lines = (DATASETS / "requirements.txt").read_text("utf-8").splitlines()
    pattern = rf"{re.escape(package)} --hash=sha256:[0-9a-f]{{64}}"
    return any(re.fullmatch(pattern, line) for line in lines)
