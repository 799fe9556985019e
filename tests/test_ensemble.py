"""Several runs must answer as one: as the equation says, from raw strings, without our code."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exports import FRESH, TEXTS, assert_stock_ops_alone, make_trained, run_python
from tests.fixtures import write_records
from zoo import ensemble as ensemble_module
from zoo import pipeline, run
from zoo.config import Config
from zoo.ensemble import Ensemble, Member, export_ensemble, join, load_members
from zoo.errors import RunError, UsageError
from zoo.export import load_servable, predict
from zoo.mixing import Mix
from zoo.models import MODELS, FeatureInputs
from zoo.tasks import get_task
from zoo.training import train_and_evaluate

TASK = "movie_reviews/rotten_tomatoes"
SMALL = {"task": TASK, "model": "bag", "size": "small,embedding_dim=5", "epochs": 1}
# Each has another vocabulary, another unit and another length.
RUNS = {
    "words": {"vocabulary_size": 9, "max_length": 13},
    "characters": {"unit": "character", "max_length": 37, "seed": 1},
    "bytes": {"unit": "byte", "max_length": 23, "seed": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    write_records(get_task(TASK), folder / "data", rows=41)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.plots, "draw", lambda *_, **__: [])
        for name, changes in RUNS.items():
            train_and_evaluate(Config(**SMALL | changes), folder / name, folder / "data")
    return folder


@pytest.fixture(scope="module")
def members(folder):
    return load_members([folder / name for name in RUNS])


@pytest.fixture(scope="module")
def joined(folder, members):
    return join(members, folder / "together", folder / "data")


@pytest.fixture(scope="module")
def everyone(joined):
    """So mixed that nobody's answer is lost."""
    return replace(joined, mix=replace(joined.mix, weights=(0.5, 0.2, 0.3), temperature=0.25))


@pytest.fixture(scope="module")
def exported(everyone, tmp_path_factory):
    return export_ensemble(everyone, "together", tmp_path_factory.mktemp("saved_models"))


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture
def scored(monkeypatch):
    """The names of the splits as they are scored."""
    real, names = ensemble_module.evaluate_split, []

    def evaluate_split(logits_of, split, name):
        names.append(name.split(",")[0])
        return real(logits_of, split, name)

    monkeypatch.setattr(ensemble_module, "evaluate_split", evaluate_split)
    return names


def expected_probabilities(ensemble, texts):
    """The way of training, each text in a batch of its own, and the equation."""
    logits = []
    for member in ensemble.members:
        model, encoder = member.trained.model, member.trained.encoder
        rows = [encoder(tf.constant([text])).to_tensor() for text in texts]
        logits.append([model({"ids": ids}, training=False).numpy()[0] for ids in rows])
    return np.exp(ensemble.mix.log_probabilities(np.array(logits)))


def test_the_figures_are_those_of_a_run_and_not_worse_than_the_best_members(folder, joined):
    figures = json.loads((folder / "together" / "ensemble.json").read_text("utf-8"))
    assert figures == joined.figures
    of_a_run = json.loads((folder / "words" / "metrics.json").read_text("utf-8"))
    for split in ("validation", "test"):
        assert figures[split].keys() == of_a_run[split].keys() - {"by_length"}
        assert figures[split]["examples"] == of_a_run[split]["examples"]
    alone = [row["validation"]["log_loss"] for row in figures["members"]]
    assert figures["validation"]["log_loss"] <= min(alone) + 1e-6
    for name, row in zip(RUNS, figures["members"], strict=True):
        assert row["folder"] == str(folder / name)
        its_own = json.loads((folder / name / "metrics.json").read_text("utf-8"))["validation"]
        assert row["validation"]["log_loss"] == pytest.approx(its_own["log_loss"], abs=1e-6)
        assert Config.from_json(row["config"]).unit == RUNS[name].get("unit", "word")
    assert joined.mix.weights == tuple(row["weight"] for row in figures["members"])
    assert sorted(path.name for path in (folder / "together").iterdir()) == ["ensemble.json"]


def test_test_is_scored_once_and_after_validation(folder, members, scored, tmp_path, capsys):
    first = join(members, tmp_path / "new", folder / "data")
    assert scored == ["validation"] * 3 + ["test"] * 3
    # In whatever order they are named, and wherever they were copied to: without any data.
    shutil.copytree(folder / "words", tmp_path / "moved")
    names = [tmp_path / "moved", folder / "bytes", folder / "characters"]
    again = join(load_members(names), tmp_path / "new", tmp_path / "nowhere")
    assert len(scored) == 6
    assert again.figures == first.figures
    a, b, c = first.mix.weights
    assert again.mix.weights == (a, c, b)
    assert "finished; its figures:" in capsys.readouterr().out


def test_test_is_left_alone_until_it_is_asked_for(folder, members, joined, scored, tmp_path):
    new = tmp_path / "new"
    for _ in range(2):
        chosen = join(members, new, folder / "data", score_test=False)
        assert scored == ["validation"] * 3
        assert "test" not in chosen.figures
        assert json.loads((new / "ensemble.json").read_text("utf-8")) == chosen.figures
    for _ in range(2):  # the weights that were found, in another order
        final = join(members[::-1], new, folder / "data")
        assert scored == ["validation"] * 3 + ["test"] * 3
    assert json.loads((new / "ensemble.json").read_text("utf-8")) == final.figures
    for figure in ("accuracy", "log_loss"):
        assert final.figures["test"][figure] == pytest.approx(
            joined.figures["test"][figure], rel=1e-12
        )
    assert final.mix.weights == joined.mix.weights[::-1]


def test_other_data_than_those_of_the_weights_are_refused(folder, tmp_path):
    """Bytes have no vocabulary that would tell."""
    members = load_members([folder / "bytes"])
    join(members, tmp_path / "new", folder / "data", score_test=False)
    before = (tmp_path / "new" / "ensemble.json").read_bytes()
    write_records(get_task(TASK), tmp_path / "data", rows=57)
    with pytest.raises(RunError, match="have changed since the weights were found"):
        join(members, tmp_path / "new", tmp_path / "data")
    assert (tmp_path / "new" / "ensemble.json").read_bytes() == before


def test_one_without_test_is_exported_all_the_same(folder, members, tmp_path):
    chosen = join(members, tmp_path / "new", folder / "data", score_test=False)
    exported = export_ensemble(chosen, "a", tmp_path)
    card = json.loads((exported / "assets.extra" / "card.json").read_text("utf-8"))
    assert card["metrics"].keys() == {"validation"}


def test_a_member_that_was_trained_anew_is_another(folder, joined, tmp_path):
    """If only to be calibrated, which leaves its file as it was."""
    shutil.copytree(folder / "words", tmp_path / "words")
    file = tmp_path / "words" / "metrics.json"
    figures = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(figures | {"temperature": 1.75}), "utf-8")
    names = [tmp_path / "words", folder / "characters", folder / "bytes"]
    with pytest.raises(UsageError, match="or of what they were before they were trained anew"):
        join(load_members(names), folder / "together", folder / "data")


def test_other_members_are_refused(folder, joined, scored):
    with pytest.raises(UsageError, match="is of an ensemble of other members") as caught:
        join(load_members([folder / "words"]), folder / "together", folder / "data")
    assert "\n" not in str(caught.value)
    assert scored == []


def test_members_of_two_tasks_are_refused(folder, tmp_path):
    shutil.copytree(folder / "words", tmp_path / "imdb")
    file = tmp_path / "imdb" / "config.json"
    file.write_text(file.read_text("utf-8").replace(TASK, "movie_reviews/imdb"), "utf-8")
    with pytest.raises(UsageError) as caught:
        load_members([folder / "words", folder / "bytes", tmp_path / "imdb"])
    assert str(caught.value) == (
        f"{folder / 'words'} is of task {TASK}, {tmp_path / 'imdb'} of movie_reviews/imdb: "
        "the members of an ensemble must be of one task"
    )


@pytest.mark.parametrize("names", [[], [""], ["words", ""]])
def test_no_members_are_refused(folder, names):
    with pytest.raises(UsageError, match="must name folders of finished runs"):
        load_members([name and folder / name for name in names])


def test_a_member_named_twice_is_refused(folder):
    with pytest.raises(UsageError, match="hold the same model: name it once"):
        load_members([folder / "words", folder / "bytes", folder / "data" / ".." / "words"])


def test_an_unfinished_run_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match="holds no finished run"):
        load_members([folder / "words", tmp_path])


def test_a_runs_folder_is_not_taken(folder, members):
    before = sorted((folder / "words").iterdir())
    with pytest.raises(UsageError, match="is a run's folder"):
        join(members, folder / "words", folder / "data")
    assert sorted((folder / "words").iterdir()) == before


def test_rows_of_other_data_are_refused_and_leave_nothing(folder, members, monkeypatch, tmp_path):
    real, calls = pipeline.encode, []

    def encode(*arguments):
        data = real(*arguments)
        calls.append(data)
        if len(calls) == 2:
            split = data.splits["validation"]
            labels = np.roll(np.asarray(split.labels), 1)
            data.splits["validation"] = replace(split, labels=labels)
        return data

    monkeypatch.setattr(pipeline, "encode", encode)
    with pytest.raises(RunError, match="rows of validation are not the same for"):
        join(members, tmp_path / "new", folder / "data")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"members": [1]}'])
def test_a_damaged_file_is_one_line(members, tmp_path, content):
    (tmp_path / "ensemble.json").write_text(content)
    with pytest.raises(RunError, match=r"ensemble\.json cannot be read"):
        join(members, tmp_path, tmp_path)


@pytest.mark.parametrize("part", ["temperature", "validation", "weight", "test"])
def test_what_a_file_lacks_is_not_found_anew(folder, joined, members, scored, tmp_path, part):
    broken = json.loads(json.dumps(joined.figures))
    if part == "weight":
        del broken["members"][1]["weight"]
    elif part == "test":
        broken["test"] = None
    else:
        del broken[part]
    (tmp_path / "ensemble.json").write_text(json.dumps(broken), "utf-8")
    with pytest.raises(RunError, match=r"ensemble\.json cannot be read: a part of it is missing"):
        join(members, tmp_path, folder / "data", score_test=False)
    assert not scored


def test_a_saved_model_answers_as_the_equation_says(everyone, loaded):
    answer = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
    expected = expected_probabilities(everyone, TEXTS)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 0.01
    names = np.array([b"negative", b"positive"])
    np.testing.assert_array_equal(answer["label"], names[expected.argmax(-1)])
    logits = loaded.signatures["logits"](text=tf.constant(TEXTS))["logits"]
    np.testing.assert_allclose(logits, np.log(expected), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=60), st.binary(max_size=60)), max_size=3))
def test_any_text_is_answered_as_in_python(everyone, loaded, texts):
    raw = [
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in texts
    ]
    answer = loaded.signatures["serving_default"](text=tf.constant(raw, tf.string))
    assert answer["probabilities"].shape == (len(texts), 2)
    if raw:
        expected = expected_probabilities(everyone, raw)
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_a_saved_model_holds_stock_ops_alone(exported, loaded):
    assert_stock_ops_alone(loaded)
    assert b"CustomGradient" not in (exported / "saved_model.pb").read_bytes()


def test_a_fresh_process_without_this_package_gives_the_same(everyone, exported, tmp_path):
    done = run_python(["-c", FRESH, exported, json.dumps(TEXTS)], tmp_path)
    expected = expected_probabilities(everyone, TEXTS)
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)


def test_it_is_predicted_with_as_a_run_is(everyone, exported):
    found = list(predict(load_servable(exported.parent), TEXTS, batch_size=2))
    expected = expected_probabilities(everyone, TEXTS)
    np.testing.assert_allclose(
        [list(one.probabilities.values()) for one in found], expected, atol=1e-5
    )


def test_the_card_tells_the_members(everyone, exported):
    extra = exported / "assets.extra"
    card = json.loads((extra / "card.json").read_text("utf-8"))
    assert (card["task"], card["model"], card["temperature"]) == (TASK, "ensemble", 0.25)
    assert card["inputs"] == {"text": "string[B]"}
    assert card["metrics"]["test"] == everyone.figures["test"]
    assert [row["weight"] for row in card["members"]] == [0.5, 0.2, 0.3]
    for row, member in zip(card["members"], everyone.members, strict=True):
        encoder = member.trained.encoder
        assert row["config"] == member.trained.config.to_json()
        assert row["tokens"]["unit"] == encoder.settings.unit
        words = (extra / row["tokens"]["vocabulary"]).read_text("utf-8").split("\n")[:-1]
        assert tuple(words) == encoder.vocabulary


def test_who_is_not_heard_is_left_out(joined, exported, tmp_path):
    first = replace(joined, mix=replace(joined.mix, weights=(1.0, 0.0, 0.0), temperature=2.0))
    folder = export_ensemble(first, "one", tmp_path)
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](text=tf.constant(TEXTS))
    expected = expected_probabilities(first, TEXTS)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    sizes = [(one / "saved_model.pb").stat().st_size for one in (folder, exported)]
    assert sizes[0] < sizes[1] / 2


def test_models_on_features_are_joined_too(tmp_path):
    models = [MODELS[name](FeatureInputs(5), 2) for name in ("bag", "lstm")]
    runs = [replace(make_trained(), model=model, encoder=None) for model in models]
    members = tuple(Member(tmp_path / str(i), str(i), trained) for i, trained in enumerate(runs))
    figures = {"validation": {}, "versions": {}, "machine": {}}
    joined = Ensemble(members, Mix((0.25, 0.75), 0.5), figures)
    folder = export_ensemble(joined, "tracks", tmp_path)
    features = np.random.default_rng(0).normal(size=(2, 7, 5)).astype("float32")
    steps = {"features": tf.constant(features), "lengths": tf.constant([7, 3])}
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](**steps)
    logits = np.stack([model(steps, training=False).numpy() for model in models])
    expected = np.exp(joined.mix.log_probabilities(logits))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    card = json.loads((folder / "assets.extra" / "card.json").read_text("utf-8"))
    assert card["inputs"] == {"features": "float32[B, T, D]", "lengths": "int32[B], in steps"}
    assert [row["tokens"] for row in card["members"]] == [None, None]
