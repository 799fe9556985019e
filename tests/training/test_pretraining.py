"""Learning from text alone, and what a classifier then begins with."""

import json

import numpy as np
import pytest

from tests.training.runs import SMALL, assert_same_run
from zoo import run
from zoo.config import Config
from zoo.corpus import Corpus
from zoo.errors import RunError, UsageError
from zoo.pretraining import characters_of, load_pretrained, pretrain
from zoo.pretraining_config import PretrainingConfig
from zoo.text import TextSettings
from zoo.training import evaluate, load_trained, train_and_evaluate
from zoo.word_learner import WordLearner
from zoo.workdir import Workdir

MODEL = {"model": "bilstm", "size": "small,embedding_dim=7,units=3"}
WORDS = {
    "tasks": SMALL["task"],
    **MODEL,
    "objective": "causal",
    "epochs": 2,
    "sampled_words": 20,
    "learning_rate": 0.03,
    **{
        name: SMALL[name]
        for name in ("vocabulary_size", "max_length", "batch_tokens", "batch_size")
    },
}
CLASSES = SMALL | MODEL | {"epochs": 1}


@pytest.fixture(scope="module")
def pretrained(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("words") / "run"
    return workdir, pretrain(PretrainingConfig(**WORDS), workdir, data_dir)


def test_it_says_how_well_it_tells_words_and_finishes_once(pretrained, data_dir, capsys):
    workdir, figures = pretrained
    found = figures["validation"]
    assert 1 < found["perplexity"] < 60
    assert found["perplexity"] == pytest.approx(np.exp(found["log_loss"]))
    assert 0 < found["bits_per_character"] < 8
    assert json.loads((workdir / "metrics.json").read_text()) == figures
    assert pretrain(PretrainingConfig(**WORDS), workdir, data_dir) == figures
    assert "finished; its figures" in capsys.readouterr().out


def test_cut_anywhere_it_comes_to_the_same_end(pretrained, data_dir, tmp_path, monkeypatch):
    workdir, _ = pretrained
    config = PretrainingConfig(**WORDS, checkpoint_seconds=0.0)
    real, steps = run.Run._step, []

    def cut(self, inputs, labels):
        steps.append(1)
        if len(steps) in (3, 17):
            raise KeyboardInterrupt
        return real(self, inputs, labels)

    monkeypatch.setattr(run.Run, "_step", cut)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, tmp_path / "cut", data_dir)
    pretrain(config, tmp_path / "cut", data_dir)
    ours, theirs = (
        Workdir(path).load_model().get_weights() for path in (tmp_path / "cut", workdir)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_goes_back_with_a_smaller_step_too(pretrained, data_dir, tmp_path, monkeypatch, capsys):
    real = WordLearner.step

    def step(self, *batch):
        loss, correct, answers = real(self, *batch)
        spoilt = int(self._schedule.iterations) == 20 and self.learning_rate > 0.003
        return float("nan") if spoilt else loss, correct, answers

    monkeypatch.setattr(WordLearner, "step", step)
    pretrain(PretrainingConfig(**WORDS, on_nan="rollback"), tmp_path, data_dir)
    assert "the loss of step 20 is nan: going back to step 13 and" in capsys.readouterr().out
    ours, theirs = (Workdir(path).read_log() for path in (tmp_path, pretrained[0]))
    assert ours[0]["loss"] == theirs[0]["loss"]
    assert ours[1]["loss"] > theirs[1]["loss"]  # not as far down


def test_a_classifier_begins_with_all_but_the_last_layer(pretrained, data_dir, tmp_path):
    workdir, _ = pretrained
    still = {"learning_rate": 1e-12, "calibrate": False}
    config = Config(**CLASSES | still, pretrained=str(workdir))
    figures = train_and_evaluate(config, tmp_path / "run", data_dir)
    before, after = load_pretrained(workdir), load_trained(tmp_path / "run")
    assert after.encoder.vocabulary == before.encoder.vocabulary
    for layer in ("embedding", "bilstm_0"):
        for ours, theirs in zip(
            after.model.get_layer(layer).get_weights(),
            before.model.get_layer(layer).get_weights(),
            strict=True,
        ):
            if ours.dtype == theirs.dtype == "float32":
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
    again = evaluate(after, "validation", data_dir)
    assert again["accuracy"] == figures["validation"]["accuracy"]


def test_it_is_repeatable(pretrained, data_dir, tmp_path):
    for name in ("one", "two"):
        config = Config(**CLASSES, pretrained=str(pretrained[0]), unfreeze_epochs=1)
        train_and_evaluate(config, tmp_path / name, data_dir)
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "small"}, "that run has size 'small,embedding_dim=7,units=3', not 'small'"),
        ({"unit": "character"}, "that run has unit 'word', not 'character'"),
        ({"model": "lstm"}, "that run has model 'bilstm', not 'lstm'"),
    ],
)
def test_another_family_size_or_unit_is_refused(pretrained, data_dir, tmp_path, changes, words):
    config = Config(**CLASSES | changes, pretrained=str(pretrained[0]))
    with pytest.raises(UsageError, match=words):
        train_and_evaluate(config, tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_each_kind_of_run_is_refused_in_the_other_ones_place(pretrained, whole, data_dir, tmp_path):
    with pytest.raises(UsageError, match=r"of a run of trainers/train.py, not of pretrain.py"):
        load_pretrained(whole[0])
    with pytest.raises(UsageError, match=r"of a run of trainers/pretrain.py, not of train.py"):
        load_trained(pretrained[0])
    with pytest.raises(RunError, match="holds no finished pretraining"):
        load_pretrained(tmp_path)


def test_characters_are_of_words_with_their_space_and_of_characters_alone():
    def count(unit, *words):
        settings = TextSettings(unit, 60, 11)
        return characters_of(Corpus(settings, words, {}, ""))[2:].tolist()

    assert count("word", "a", "film", "!", "片", "영화", "7") == [2, 5, 1, 1, 3, 2]
    assert count("character", "a", "f") == count("bigram", "af", "fi") == [1, 1]
    per_byte = count("byte")
    assert [sum(per_byte[byte] for byte in text.encode()) for text in ("a film", "片!")] == [6, 2]


def test_text_with_nothing_to_tell_is_refused_before_anything_begins(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"word{i}\n" for i in range(400)), "utf-8")
    changes = {"tasks": "", "text_files": str(lines)}
    with pytest.raises(UsageError, match="there is no word to tell in the validation text"):
        pretrain(PretrainingConfig(**WORDS | changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_text_longer_than_the_positions_is_refused(data_dir, tmp_path):
    size = "small,embedding_dim=8,num_heads=2,position=learned,max_positions=5"
    changes = {"model": "transformer", "size": size, "objective": "masked"}
    with pytest.raises(UsageError, match="the model has 5 positions"):
        pretrain(PretrainingConfig(**WORDS | changes), tmp_path / "run", data_dir)
