"""The page on serving: its commands and its program run as they stand, but for the ports."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
from absl import flags

from tests.pages import snippets
from tests.serving.processes import ROOT, serving
from zoo.serving import command
from zoo.serving.model_config import of_file

PAGE = (ROOT / "docs/serving.md").read_text("utf-8")


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """A folder like a checkout, with the model that the page asks."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(exported.parent, folder / "saved_models/first")
    return folder


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands are curl's")
def test_the_commands_and_the_client(folder, capsys):
    (install, serve), asks = (text.splitlines() for text in snippets(PAGE, "bash"))
    assert install == "pip install -e '.[serve]'"
    program, model = shlex.split(serve)
    assert program == "zoo-serve"
    with serving(folder / model) as server:
        server.until("first 1 is served")
        answers = []
        for line in asks:
            line = line.replace("localhost:8501", server.url)
            done = subprocess.run(
                [*shlex.split(line), "--silent", "--fail-with-body"],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            answers.append(json.loads(done.stdout))
        assert len(answers[0]["predictions"]) == 2
        assert set(answers[1]["outputs"]) == {"label", "probabilities"}
        assert len(answers[2]["predictions"][0]) == 2
        assert answers[3]["models"][0]["name"] == "first"
        assert answers[4]["model_version_status"][0]["state"] == "AVAILABLE"
        assert answers[5]["model_spec"]["name"] == "first"
        (client,) = snippets(PAGE, "python")
        exec(client.replace("localhost:8500", server.target), {})
        assert re.match(r"1 \[b'(negative|positive)'\]", capsys.readouterr().out)


def test_the_file_of_several_models(folder):
    (text,) = snippets(PAGE, "textproto")
    (folder / "models.config").write_text(text)
    first, staged = of_file(str(folder / "models.config"))
    assert first.base_path == staged.base_path == folder / "saved_models/first"
    assert (staged.latest, staged.labels) == (2, {"stable": 1})


def test_every_flag_is_told_with_its_default():
    own: flags.FlagValues = command._flags()
    told = {}
    for line in PAGE.splitlines():
        if line.startswith("| `--"):
            _, names, values, *_ = line.split("|")
            names = re.findall(r"--(\w+)", names)
            values = [value.strip(" `") for value in values.split(",")]
            told |= dict(zip(names, values * len(names), strict=False))
    assert told.keys() == {name for name in own if name.strip("?") and name[:4] != "help"}
    for name, value in told.items():
        default = own[name].default or 0
        shown = value or "0"
        assert shown == (f"{default:g}" if isinstance(default, float) else str(default)), name


def test_what_it_links_to_is_there():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).resolve().is_file(), link
