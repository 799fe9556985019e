"""Keras's own `fit` over an archive: its batches, and that they leave a run like any other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.archive import Archive, load, save
from zoo.config import FIT_FIELDS, Config
from zoo.errors import Diverged, RunError, UsageError
from zoo.export import export
from zoo.fitting import LengthBuckets, bucket_widths, fit
from zoo.models import TokenInputs
from zoo.splits import Split
from zoo.training import load_trained

TASK = "movie_reviews/imdb"
WORDS = tuple("abcdefgh")


def make_split(rows, seed):
    """Rows in which the id 2 stands for the class 1 and 3 for 0, among ids that tell nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=rows)
    texts = [
        rng.permutation(np.append(rng.integers(4, 10, rng.integers(0, 9)), 3 - label))
        for label in labels
    ]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Split(np.concatenate(texts).astype("int32"), offsets, labels.astype("int32"))


@pytest.fixture(scope="module")
def archive():
    splits = {"train": make_split(300, 0), "validation": make_split(70, 1)}
    return Archive(
        TASK,
        {"unit": "word", "vocabulary_size": 60, "max_length": 9},
        WORDS,
        TokenInputs(10),
        "a fingerprint",
        splits | {"test": make_split(80, 2)},
    )


def config(archive, **changes):
    settings = {"model": "bag", "batch_tokens": 90, "epochs": 3, "learning_rate": 0.02}
    return Config(**{"task": TASK, **archive.settings, **settings, **changes})


def test_an_archive_comes_back_as_it_was(archive, tmp_path):
    path = tmp_path / "a.npz"
    save(archive, path)
    again = load(path)
    for field in dataclasses.fields(Archive):
        if field.name != "splits":
            assert getattr(again, field.name) == getattr(archive, field.name)
    for name, split in archive.splits.items():
        for part in ("values", "offsets", "labels"):
            np.testing.assert_array_equal(getattr(again.splits[name], part), getattr(split, part))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_archive_is_told_in_a_line(content, tmp_path):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"a\.npz cannot be read .*trainers/archive\.py"):
        load(path)


def test_arrays_of_someone_else_are_no_archive(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(RunError, match="cannot be read"):
        load(tmp_path / "a.npz")


@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=60),
    batch_tokens=st.integers(1, 200),
    seed=st.none() | st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_every_row_stands_in_one_batch_of_every_epoch(lengths, batch_tokens, seed):
    lengths = np.array(lengths)
    values = np.arange(1, lengths.sum() + 1, dtype="int32")
    split = Split(values, np.append(0, lengths.cumsum()), (lengths % 2).astype("int32"))
    widths = bucket_widths(lengths)
    assert widths[-1] == max(1, lengths.max())
    assert (np.diff(widths) > 0).all()
    batches = LengthBuckets(split, widths, batch_tokens, 2, seed)
    shapes = set()
    for _ in range(2):
        seen = []
        for index in range(batches.num_batches):
            inputs, labels, weights = batches[index]
            ids, rows = inputs["ids"], batches.rows(index)
            shapes.add(ids.shape)
            assert ids.size <= max(batch_tokens, ids.shape[1])
            assert weights.sum() == len(rows)
            assert not ids[len(rows) :].any()
            np.testing.assert_array_equal(labels.argmax(axis=1)[: len(rows)], split.labels[rows])
            for place, row in enumerate(rows):
                np.testing.assert_array_equal(ids[place, : lengths[row]], split.row(row))
                assert not ids[place, lengths[row] :].any()
            seen += rows.tolist()
        assert sorted(seen) == list(range(len(lengths)))
        batches.on_epoch_end()
    assert len(shapes) <= len(widths)
    assert 0 <= batches.padding_share <= 1


def test_an_epochs_order_is_the_seeds_alone(archive):
    split = archive.splits["train"]
    one, same, other = (
        LengthBuckets(split, bucket_widths(split.lengths), 90, 2, seed) for seed in (1, 1, 2)
    )
    first = [one.rows(i).tolist() for i in range(one.num_batches)]
    assert first == [same.rows(i).tolist() for i in range(same.num_batches)]
    assert first != [other.rows(i).tolist() for i in range(other.num_batches)]
    one.on_epoch_end()
    assert first != [one.rows(i).tolist() for i in range(one.num_batches)]


def test_a_run_is_like_any_other(archive, tmp_path, capsys):
    asked = config(archive, model="lstm", size="small,units=8,embedding_dim=8")
    figures = fit(archive, asked, tmp_path / "run")
    assert figures["test"]["accuracy"] > 0.95
    assert figures["test"]["examples"] == 80
    trained = load_trained(tmp_path / "run")
    assert trained.config == asked
    assert trained.encoder.vocabulary == WORDS
    # Two of its texts, as the run that was read back answers them, and as the file of figures says.
    split = archive.splits["test"]
    logits = np.concatenate(
        [np.asarray(trained.model({"ids": split.row(i)[None]})) for i in range(len(split))]
    )
    assert (logits.argmax(axis=1) == split.labels).mean() == figures["test"]["accuracy"]
    exported = export(trained, "fitted", tmp_path / "exported")
    assert Path(exported, "saved_model.pb").is_file()
    capsys.readouterr()
    assert fit(archive, asked, tmp_path / "run") == figures
    assert "finished" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_figures(archive, tmp_path):
    runs = [fit(archive, config(archive), tmp_path / name) for name in ("a", "b")]
    for split in ("validation", "test"):
        for figure in ("accuracy", "log_loss"):
            assert runs[0][split][figure] == runs[1][split][figure]


def test_test_is_not_looked_at_while_choices_are_made(archive, tmp_path):
    assert "test" not in fit(archive, config(archive), tmp_path / "run", score_test=False)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_what_is_kept_is_in_float32(precision, archive, tmp_path):
    fit(archive, config(archive, mixed_precision=precision, epochs=1), tmp_path / "run")
    model = load_trained(tmp_path / "run").model
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_what_has_no_part_here_is_refused(archive, tmp_path):
    for change in ({"patience_epochs": 2}, {"max_length": 8}, {"model": "nb_ngram"}):
        with pytest.raises(UsageError, match=f"--{next(iter(change))}="):
            fit(archive, config(archive, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="--size=small,units=8"):
        fit(archive, config(archive, size="small,units=8"), tmp_path / "run")


def test_another_configuration_is_another_run(archive, tmp_path):
    fit(archive, config(archive, epochs=1), tmp_path / "run")
    with pytest.raises(UsageError, match="another configuration"):
        fit(archive, config(archive, epochs=2), tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run(archive, tmp_path):
    with pytest.raises(Diverged):
        fit(archive, config(archive, learning_rate=1e30, clip_norm=0.0), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_the_fields_are_those_of_a_configuration():
    assert {field.name for field in dataclasses.fields(Config)} >= set(FIT_FIELDS)
