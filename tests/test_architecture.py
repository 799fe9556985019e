"""Who may import whom, and how long a file may be: the design, held by a test."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parents[1]
FOLDERS = ("zoo", "datasets", "trainers")

# The only packages that files below a folder may import at module level or inside a function.
ALLOWED = {
    "zoo/layers": {"keras", "numpy", "zoo.layers"},
    "zoo/models": {"keras", "zoo.layers", "zoo.models"},
    "datasets": {"tensorflow_datasets", "numpy"},
    # It scores with any export, and so knows nothing of how one is trained.
    "zoo/scoring": {
        "apache_beam",
        "pyarrow",
        "tensorflow",
        "zoo",
        "zoo.errors",
        "zoo.export",
        "zoo.paths",
        "zoo.scoring",
    },
    # The server serves any SavedModel, and so knows nothing of how ours are made.
    "zoo/serving": {
        "google.protobuf",
        "grpc",
        "grpc_health",
        "grpc_reflection",
        "httptools",
        "numpy",
        "prometheus_client",
        "starlette",
        "tensorflow",
        "tensorflow_serving",
        "uvicorn",
        "zoo.errors",
        "zoo.paths",
        "zoo.silence",
        "zoo.serving",
        "zoo.__version__",
    },
}
# The one installed program: a console script has to live in the package.
COMMAND = "zoo/serving/command.py"
# What is faster than `keras.ops` on one backend may know that backend, inside its functions.
FAST = ("_fast", "_loop")
# The data set's own test stands beside it, as TFDS has it, and may import its builder.
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.name.endswith("_test.py")
]


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides who imports whom"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def relative(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_go_one_way(path):
    names = set(imported_names(path))
    for name in names:
        assert name.split(".")[0] not in ("datasets", "trainers"), f"imports {name}"
    for folder, allowed in ALLOWED.items():
        if relative(path).startswith(folder + "/"):
            if path.stem.endswith(FAST):
                allowed = allowed | {"tensorflow", "torch", "jax"}
            if relative(path) == COMMAND:
                allowed = allowed | {"absl"}
            for name in names:
                known = name.split(".")[0] in sys.stdlib_module_names or any(
                    name == other or name.startswith(other + ".") for other in allowed
                ) or (folder == "zoo/models" and name == "zoo.models")  # fmt: skip
                assert known, f"{folder} may not import {name}"
    if not relative(path).startswith("zoo/scoring/"):
        assert not any(name.split(".")[0] == "apache_beam" for name in names), "an extra's own"
    if relative(path).startswith("zoo/") and relative(path) != COMMAND:
        assert not any(name.split(".")[0] == "absl" for name in names), "flags live in trainers/"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_holds_one_concept(path):
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= (80 if relative(path).startswith("trainers/") else 400)


def test_datasets_and_trainers_are_no_packages():
    assert not list((ROOT / "datasets").rglob("__init__.py"))
    assert not list((ROOT / "trainers").rglob("__init__.py"))


@pytest.mark.parametrize(
    "name", ["zoo", *(m.name for m in pkgutil.walk_packages(zoo.__path__, "zoo."))]
)
def test_the_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("module", ["zoo.layers", "zoo.models"])
def test_layers_and_models_do_not_drag_in_data_libraries(module):
    code = f"import sys, {module}; assert 'tensorflow_datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
