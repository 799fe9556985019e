"""The README's snippets run as they stand, on a small data set in place of the real one."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from tests.pages import snippets
from zoo.tasks import get_task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout, whose runs and exports stay out of the real one."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("trainers", "datasets"):
        (folder / name).symlink_to(ROOT / name)
    write_records(get_task("movie_reviews/rotten_tomatoes"), folder / "data")
    return folder


def run(arguments, folder):
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_training_then_serving(checkout):
    _, serving = snippets(README, "python")
    (commands,) = snippets(README, "bash")
    outputs = []
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "python"
        outputs.append(run(arguments, checkout))
    assert "already prepared" in outputs[0]
    assert (checkout / "runs/first/metrics.json").is_file()
    assert outputs[2].split("\t")[0] in ("negative", "positive")
    answer = run(["-c", serving], checkout)
    assert re.match(r"\[b'(negative|positive)' b'(negative|positive)'\] \[\[", answer)


def test_importing_a_layer():
    scope = {}
    exec(snippets(README, "python")[0], scope)
    assert scope["model"].output_shape == (None, 2)


def test_the_page_on_layers_runs():
    lstm, plain, attention, around = snippets(
        (ROOT / "docs/layers.md").read_text("utf-8"), "python"
    )
    scope = {}
    exec(lstm, scope)
    assert scope["gates"]["f"].shape == (2, 7, 3)
    exec(plain, scope)
    assert scope["flat"][4:8] == b"TFL3"
    exec(attention, scope)
    assert scope["step"].shape == (1, 1, 8)
    exec(around, scope)
    assert scope["pooled"].shape == (2, 8)
    assert scope["logits"].shape == (2, 2)


def test_everything_it_links_to_is_there():
    for link in re.findall(
        r"\]\((?!http)([^)#]+)\)|`((?:docs|datasets|trainers)/[\w/.-]+)`", README
    ):
        assert (ROOT / (link[0] or link[1])).exists(), link
