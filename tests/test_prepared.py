"""Records are made whole or not at all, and every failure says what would work."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import requests
import tensorflow_datasets as tfds

from tests.fixtures import make_read_only, mounted, write_records
from zoo import prepared
from zoo.errors import RunError, UsageError
from zoo.tasks import TASKS

TASK = TASKS["movie_reviews/rotten_tomatoes"]
TINY = """
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="rotten_tomatoes", description="Tiny.")]

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {
                        "text": tfds.features.Text(),
                        "label": tfds.features.ClassLabel(names=["negative", "positive"]),
                    }
                )
            )

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(name) for name in ("train", "validation", "test")}

        def _generate_examples(self, name):
            for row in range(6):
                yield row, {"text": f"a {name} film", "label": row % 2}
"""


@pytest.fixture
def datasets_dir(tmp_path):
    """A folder `datasets/` whose movie_reviews is six invented rows a split."""
    folder = tmp_path / "checkout" / "datasets" / "movie_reviews"
    folder.mkdir(parents=True)
    source = folder / "movie_reviews_dataset_builder.py"
    source.write_text(textwrap.dedent(TINY))
    (folder / "README.md").write_text("Invented.\n")
    (folder / "CITATIONS.bib").write_text("\n")
    return folder.parent


def break_builder(datasets_dir, old, new):
    path = datasets_dir / "movie_reviews" / "movie_reviews_dataset_builder.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_records_are_made_once_and_read_back(datasets_dir, tmp_path):
    data_dir = tmp_path / "new" / "data"
    known = tfds.list_builders(with_community_datasets=False)
    assert prepared.prepare(TASK, data_dir, datasets_dir) is True
    before = files(data_dir)
    assert prepared.prepare(TASK, data_dir, datasets_dir / "gone") is False
    assert files(data_dir) == before
    builder = prepared.open_records(TASK, data_dir)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 6,
        "validation": 6,
        "test": 6,
    }
    # A second checkout's data set of that name would be refused.
    assert tfds.list_builders(with_community_datasets=False) == known


def test_a_home_folder_and_the_default_are_resolved(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", "~/default")
    assert prepared.resolve("~/data") == tmp_path / "data"
    assert prepared.resolve(None) == tmp_path / "default"
    with pytest.raises(UsageError, match=f"--data_dir= is empty.*{tmp_path}"):
        prepared.resolve("")


def test_what_is_not_prepared_names_the_command_and_a_task_without_network(tmp_path, monkeypatch):
    command = r"prepare\.py --task=movie_reviews/rotten_tomatoes"
    with pytest.raises(RunError, match=f"{command} --data_dir={tmp_path}$"):
        prepared.open_records(TASK, tmp_path)
    with pytest.raises(RunError, match=r"needs a network.*movie_reviews/imdb"):
        prepared.open_records(TASKS["imdb_reviews"], tmp_path)
    with pytest.raises(RunError, match=f"{command} --data_dir='{tmp_path}/a b'$"):
        prepared.open_records(TASK, tmp_path / "a b")
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(RunError, match=f"{command}$"):
        prepared.open_records(TASK, tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"feature": "review"}, "their features are label, text, and none is review"),
        ({"label": "rating"}, "their features are label, text, and none is rating"),
        ({"classes": ("negative", "neutral", "positive")}, "their classes are negative, positive"),
        ({"classes": ("positive", "negative")}, "their classes are negative, positive, not pos"),
        ({"test": "unseen"}, "Unknown split 'unseen'"),
        ({"validation": "unseen[:10%]"}, "Unknown split 'unseen'"),
    ],
)
def test_records_that_are_not_the_tasks(changes, says, tmp_path):
    folder = write_records(TASK, tmp_path, rows=2)
    task = dataclasses.replace(TASK, **changes)
    for attempt in (
        lambda: prepared.open_records(task, tmp_path),
        lambda: prepared.prepare(task, tmp_path, tmp_path),
    ):
        with pytest.raises(RunError, match=says) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert f"{folder} cannot be read" in str(caught.value)
        assert str(caught.value).endswith(f"--task={task.name} --data_dir={tmp_path}")


def test_records_of_a_description_without_a_split(tmp_path):
    folder = write_records(TASK, tmp_path, rows=2)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] != "test"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match=r"Unknown split 'test'.*delete that folder"):
        prepared.open_records(TASK, tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 3}', "\x00\x01"])
def test_a_damaged_description_says_what_to_delete(content, tmp_path):
    folder = write_records(TASK, tmp_path, rows=2)
    (folder / "dataset_info.json").write_text(content)
    for attempt in (
        lambda: prepared.open_records(TASK, tmp_path),
        lambda: prepared.prepare(TASK, tmp_path, tmp_path),
    ):
        with pytest.raises(RunError, match=r"cannot be read.*delete that folder") as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "yield row",
            "raise FileNotFoundError('install this')\n            yield row",
            "install this",
        ),
        ("yield row,", "yield 'same',", "duplicate|Duplicate|key"),
        ("import tensorflow_datasets", "import no_such_library, tensorflow_datasets", "no_such"),
        ('"1.0.0"', '"1.2.3"', r"1\.0\.0.*1\.2\.3"),
        ('name="rotten_tomatoes"', 'name="other"', "rotten_tomatoes"),
        ("class Builder", "class Bilder", "Builder"),
    ],
)
def test_a_builder_that_fails_leaves_nothing(old, new, says, datasets_dir, tmp_path):
    break_builder(datasets_dir, old, new)
    data_dir = tmp_path / "new" / "data"
    with pytest.raises(RunError, match=says) as caught:
        prepared.prepare(TASK, data_dir, datasets_dir)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_failure_removes_nothing_that_was_there(datasets_dir, tmp_path):
    data_dir = tmp_path / "data"
    (data_dir / "downloads").mkdir(parents=True)
    (data_dir / "downloads" / "kept").write_text("by another task")
    write_records(TASKS["movie_reviews/imdb"], data_dir, rows=2)
    before = files(data_dir)
    break_builder(
        datasets_dir,
        "yield row",
        "raise OSError(28, 'No space left on device')\n            yield row",
    )
    with pytest.raises(RunError, match="No space left on device"):
        prepared.prepare(TASK, data_dir, datasets_dir)
    assert files(data_dir) == before


def test_a_failure_removes_nothing_of_another_process(datasets_dir, tmp_path):
    data_dir = tmp_path / "data"
    others = ("movie_reviews/imdb/incomplete.ABCDEF_1.0.0", "glue/sst2/incomplete.ABCDEF_2.0.0")
    made = f"[__import__('os').makedirs('{data_dir}/' + name) for name in {others}]"
    break_builder(
        datasets_dir, "yield row", f"{made}\n            raise OSError\n            yield 1"
    )
    with pytest.raises(RunError, match="OSError"):
        prepared.prepare(TASK, data_dir, datasets_dir)
    assert set(others) <= set(files(data_dir))
    assert not [name for name in files(data_dir) if "rotten_tomatoes" in name or "lock" in name]


RUN = """
import sys
from pathlib import Path
from zoo import prepared
from zoo.tasks import TASKS

data_dir, datasets_dir, ready = map(Path, sys.argv[1:4])
ready.mkdir(exist_ok=True)
(ready / sys.argv[4]).touch()
while len(list(ready.iterdir())) < int(sys.argv[5]):
    pass
made = prepared.prepare(TASKS["movie_reviews/rotten_tomatoes"], data_dir, datasets_dir)
print("made" if made else "found")
"""


def start(data_dir, datasets_dir, number=0, of=1):
    ready = datasets_dir / "ready"
    return subprocess.Popen(
        [sys.executable, "-c", RUN, data_dir, datasets_dir, ready, str(number), str(of)],
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[1]), "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_of_several_at_once_one_prepares_and_the_others_wait(datasets_dir, tmp_path):
    break_builder(datasets_dir, "yield row", "__import__('time').sleep(0.1)\n            yield row")
    several = [start(tmp_path / "data", datasets_dir, number, 3) for number in range(3)]
    ends = [(one.communicate(timeout=300), one.returncode) for one in several]
    assert [code for _, code in ends] == [0, 0, 0], ends
    assert sorted(out for (out, _), _ in ends) == ["found\n", "found\n", "made\n"]
    left = files(tmp_path / "data")
    assert not [name for name in left if "incomplete" in name or "lock" in name]


def test_what_a_killed_run_left_is_swept_by_the_next(datasets_dir, tmp_path):
    data_dir = tmp_path / "data"
    break_builder(datasets_dir, "yield row", "__import__('time').sleep(60)\n            yield row")
    killed = start(data_dir, datasets_dir)
    deadline = time.monotonic() + 120
    while not list(data_dir.glob("*/*/incomplete.*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list(data_dir.glob("*/*/incomplete.*"))
    break_builder(datasets_dir, "sleep(60)", "sleep(0)")
    assert prepared.prepare(TASK, data_dir, datasets_dir) is True
    left = files(data_dir)
    assert not [name for name in left if "incomplete" in name or "lock" in name]


def test_a_lock_that_was_removed_while_waited_for_is_taken_anew(tmp_path):
    """Between opening the file and locking it, its holder ended and a third process came."""
    path, real, held = tmp_path / "new" / ".lock", prepared.fcntl.flock, []

    def late(file, how):
        if not held:
            held.append((path.unlink(), path.parent.rmdir()))
        real(file, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared.fcntl, "flock", late)
        with prepared.locked(path):
            assert path.exists()
    assert not path.exists()


def test_a_disk_that_is_really_full(datasets_dir, tmp_path):
    break_builder(datasets_dir, 'film"', 'film" * 100_000')
    with mounted(tmp_path / "data", "size=600k"):
        with pytest.raises(RunError, match="No space left on device") as caught:
            prepared.prepare(TASK, tmp_path / "data", datasets_dir)
        assert not any(part in str(caught.value) for part in ("\n", "{{", "[Op:"))
        assert files(tmp_path / "data") == []


def test_a_folder_that_cannot_be_written_to(datasets_dir, tmp_path):
    data_dir = tmp_path / "data"
    with mounted(data_dir, "size=4m"):
        make_read_only(data_dir)
        with pytest.raises(RunError, match=r"could not be prepared.*Read-only file system"):
            prepared.prepare(TASK, data_dir, datasets_dir)
    with mounted(data_dir, "size=4m"):
        write_records(TASK, data_dir, rows=2)
        make_read_only(data_dir)
        assert prepared.prepare(TASK, data_dir, datasets_dir) is False


@pytest.mark.parametrize("progress", [True, False])
def test_bars_are_shown_where_they_are_wanted(progress, datasets_dir, tmp_path, capsys):
    prepared.prepare(TASK, tmp_path / "data", datasets_dir, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""  # TFDS announces the download of an unknown size
    assert ("Generating train examples" in err) == progress
    assert progress or err == ""


def test_a_file_in_the_way_of_the_data(datasets_dir, tmp_path):
    (tmp_path / "data").write_text("a file")
    for data_dir in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(RunError, match="could not be prepared") as caught:
            prepared.prepare(TASK, data_dir, datasets_dir)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "data").read_text() == "a file"


def test_outside_a_checkout(tmp_path):
    with pytest.raises(RunError, match=r"movie_reviews_dataset_builder\.py is missing"):
        prepared.prepare(TASK, tmp_path / "data", tmp_path / "datasets")
    assert not (tmp_path / "data").exists()


def test_no_network(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Failed to resolve 'example.invalid'\nwith a second line")

    monkeypatch.setattr(requests.Session, "get", refuse)
    with pytest.raises(RunError, match=r"resolve.*needs a network.*movie_reviews/imdb") as caught:
        prepared.prepare(TASKS["imdb_reviews"], tmp_path / "data", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_what_was_downloaded_whole_stays_and_the_half_goes(tmp_path, monkeypatch):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "other.zip").write_text("of another task")
    (downloads / "glue" / "c.zip.tmp.0123").mkdir(parents=True)  # of another process at work
    (downloads / "imdb_reviews" / "b.zip.tmp.4566").mkdir(parents=True)  # of one that was killed

    def break_off(self, url):
        del url
        (downloads / "glue" / "d.zip.tmp.0124").mkdir()  # meanwhile, by the other process
        half = self.download_dir / "imdb_reviews" / "b.zip.tmp.4567"
        half.mkdir(parents=True)
        (half / "part").write_text("half")
        (half.parent / "a.zip").write_text("whole")
        (self.download_dir / "extracted").mkdir(exist_ok=True)
        raise ConnectionError("broken off")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", break_off)
    with pytest.raises(RunError, match="broken off"):
        prepared.prepare(TASKS["imdb_reviews"], tmp_path, tmp_path)
    assert files(tmp_path) == [
        "downloads",
        "downloads/glue",
        "downloads/glue/c.zip.tmp.0123",
        "downloads/glue/d.zip.tmp.0124",
        "downloads/imdb_reviews",
        "downloads/imdb_reviews/a.zip",
        "downloads/other.zip",
    ]


def test_a_version_that_is_not_there(tmp_path):
    task = dataclasses.replace(TASKS["imdb_reviews"], version="9.9.9")
    with pytest.raises(RunError, match=r"9\.9\.9"):
        prepared.prepare(task, tmp_path / "data", tmp_path)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.offline])
def test_the_pinned_versions_are_those_of_tensorflow_datasets(name, tmp_path):
    task = TASKS[name]
    builder = tfds.builder(f"{task.builder}:{task.version}", data_dir=tmp_path)
    assert str(builder.version) == task.version
    assert {task.feature, task.label} <= set(builder.info.features)
    assert builder.info.features[task.label].num_classes == len(task.classes)
