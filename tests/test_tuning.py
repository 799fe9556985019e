"""What a search draws, what it makes of figures, and that a cut changes nothing."""

import dataclasses
import json
import sys

import pytest

from zoo import tuning
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.models import MODELS, SEARCH, SIZES, TokenInputs
from zoo.models.search import Choice, Range
from zoo.tuning import best_of, space_of, tune

BASE = Config(task="tweets", model="bag", select_by="log_loss")
SPACE = {
    "dropout_rate": Range(0.1, 0.6),
    "learning_rate": Range(1e-4, 1e-1, log=True),
    "size.embedding_dim": Choice((20, 40)),
}


TYPES = {field.name: field.type for field in dataclasses.fields(Config)}


def read(flags):
    values = dict(flag[2:].split("=", 1) for flag in flags)
    return Config(**{name: TYPES[name](value) for name, value in values.items()})


class Trainer:
    """Stands in for trainers/train.py: its figures are a function of what it was told."""

    def __init__(self):
        self.told = []
        self.stop_after = None
        self.broken = ()
        self.failure = "exit code 1: no disk"

    def __call__(self, command, log, signals):
        *flags, workdir = command[1:]
        folder = tuning.Path(workdir.removeprefix("--workdir="))
        folder.mkdir(exist_ok=True)
        config = read(flags)
        if self.stop_after == len(self.told):
            raise KeyboardInterrupt
        self.told.append(config)
        if len(self.told) in self.broken:
            return self.failure
        loss = (config.dropout_rate - 0.4) ** 2 + abs(config.learning_rate - 0.01)
        scores = {"accuracy": 1 - loss, "log_loss": loss, "expected_calibration_error": 0.01}
        (folder / "config.json").write_text(json.dumps({"config": config.to_json()}))
        figures = {"validation": scores, "train_seconds": 3.0}
        (folder / "metrics.json").write_text(json.dumps(figures))
        return None


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(tuning, "run_to_end", trainer)
    return trainer


def search(root, trials=12, base=BASE, space=SPACE, check=lambda: None):
    return tune(base, space, trials, root, ["train"], check)


def test_it_finds_better_settings_and_leaves_a_recipe(trainer, tmp_path):
    trials = search(tmp_path, 25)
    best = best_of(trials)
    assert best.merit == min(trial.merit for trial in trials)
    recipe = (tmp_path / "best.flags").read_text().splitlines()
    assert recipe[0].startswith("# The best of 25 trials: validation accuracy 9")
    assert read(recipe[1:]) == best.config
    stored = json.loads((tmp_path / "trials.json").read_text())
    assert [read(row["flags"]) for row in stored["trials"]] == trainer.told
    assert stored["searched"] == sorted(SPACE)
    assert {config.size for config in trainer.told} == {
        "small,embedding_dim=20",
        "small,embedding_dim=40",
    }


def test_it_learns_from_the_trials_before(trainer, tmp_path):
    random, learnt = [], []
    for seed in range(6):
        base = Config(task="tweets", model="bag", select_by="log_loss", seed=seed)
        merits = [trial.merit for trial in search(tmp_path / str(seed), 25, base)]
        random += merits[:8]
        learnt += merits[-10:]
    assert sum(learnt) / len(learnt) < 0.8 * sum(random) / len(random)


def test_cut_anywhere_it_comes_to_the_same_end(trainer, tmp_path):
    whole = search(tmp_path / "whole")
    trainer.told = []
    for stop in (0, 3, 4, 9):
        trainer.stop_after = stop
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "cut")
    trainer.stop_after = None
    assert search(tmp_path / "cut") == whole
    assert trainer.told == [trial.config for trial in whole]
    assert search(tmp_path / "cut", 5) == whole[:5]


def test_another_seed_draws_other_settings(trainer, tmp_path):
    one = search(tmp_path / "one", 2)
    other = search(tmp_path / "other", 2, Config(task="tweets", model="bag", seed=1))
    assert one[0].config.dropout_rate != other[0].config.dropout_rate
    assert other[0].config.seed == 1
    assert other[0].merit == 1 - other[0].figures["accuracy"]  # as its select_by says


def test_a_trial_that_fails_is_a_line_and_the_others_go_on(trainer, tmp_path, capsys):
    trainer.broken = (2,)
    trials = search(tmp_path, 3)
    assert [trial.merit is None for trial in trials] == [False, True, False]
    assert "[2/3] failed: exit code 1: no disk" in capsys.readouterr().out
    trainer.broken, told = (), list(trainer.told)
    assert search(tmp_path, 3) == trials  # and what failed is not run again
    assert trainer.told == told
    trainer.told, trainer.broken = [], range(100)
    with pytest.raises(RunError, match=r"all 2 trials failed: .*log say why"):
        search(tmp_path / "none", 2)


def no_data():
    raise RunError("the data are not prepared")


def test_what_no_trial_could_do_is_told_before_the_first(trainer, tmp_path):
    with pytest.raises(RunError, match="the data are not prepared"):
        search(tmp_path / "new", 2, check=no_data)
    assert trainer.told == []
    assert not (tmp_path / "new").exists()
    trials = search(tmp_path, 2)
    assert search(tmp_path, 2, check=no_data) == trials  # there is nothing to run


@pytest.mark.parametrize(
    ("failure", "ends", "error", "words"),
    [
        ("exit code 1: the data are gone", True, RunError, "the data are not prepared"),
        ("exit code 2: --size=smal", False, UsageError, r"exit code 2: --size=smal \(.*0001\.log"),
    ],
)
def test_what_is_not_the_trials_own_is_not_kept(trainer, tmp_path, failure, ends, error, words):
    trainer.broken, trainer.failure = (2,), failure
    with pytest.raises(error, match=words):
        search(tmp_path, 3, check=lambda: ends and len(trainer.told) == 2 and no_data())
    trainer.broken = ()
    assert all(trial.merit is not None for trial in search(tmp_path, 3))


def test_a_failed_trial_does_not_change_what_is_drawn_next(trainer, tmp_path):
    trainer.broken = (3,)
    whole = search(tmp_path / "whole", 14)
    trainer.told = []
    search(tmp_path / "cut", 12)
    trainer.broken = ()
    assert search(tmp_path / "cut", 14) == whole


def files(root):
    return [(root / name).read_text() for name in ("best.flags", "trials.json")]


def test_fewer_trials_leave_the_recipe_of_those(trainer, tmp_path):
    search(tmp_path)
    before = files(tmp_path)
    (trial,) = search(tmp_path, 1)
    recipe, listed = files(tmp_path)
    assert recipe.startswith("# The best of 1 trials: ")
    assert read(recipe.splitlines()[1:]) == trial.config
    assert len(json.loads(listed)["trials"]) == 1
    search(tmp_path)
    assert files(tmp_path) == before


def test_failed_trials_alone_leave_no_recipe_of_others(trainer, tmp_path):
    trainer.broken = (1,)
    search(tmp_path, 3)
    assert (tmp_path / "best.flags").exists()
    with pytest.raises(RunError, match="all 1 trials failed"):
        search(tmp_path, 1)
    assert not (tmp_path / "best.flags").exists()


def test_killed_behind_its_figures_a_trial_comes_to_the_recipe_all_the_same(trainer, tmp_path):
    search(tmp_path, 3)
    before = files(tmp_path)
    for name in ("best.flags", "trials.json"):
        (tmp_path / name).unlink()
    checkpoints = tmp_path / "trials" / "0002" / "checkpoints"
    checkpoints.mkdir()
    search(tmp_path, 3)
    assert files(tmp_path) == before
    assert not checkpoints.exists()


def test_checkpoints_go_with_a_trial_that_is_finished_alone(trainer, tmp_path):
    kept = [tmp_path / "trials" / f"{number:04d}" / "checkpoints" for number in range(3)]
    for path in kept:
        path.mkdir(parents=True)
    trainer.broken = (2,)
    search(tmp_path, 3)
    assert [path.exists() for path in kept] == [False, True, False]


def test_a_runs_folder_is_refused(trainer, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="is a run's folder: give another --workdir"):
        search(tmp_path)


def test_without_optuna_it_says_what_brings_it(trainer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match=r"pip install 'sequence-zoo\[tune\]' brings optuna"):
        search(tmp_path)


def test_another_searchs_folder_is_refused(trainer, tmp_path):
    search(tmp_path, 1)
    with pytest.raises(UsageError, match=r"another search \(the space\)"):
        search(tmp_path, 1, space={"dropout_rate": Range(0.1, 0.5)})
    with pytest.raises(UsageError, match=r"holds another search \(epochs: 5 there, 6 asked\)"):
        search(tmp_path, 1, Config(task="tweets", model="bag", select_by="log_loss", epochs=6))


@pytest.mark.parametrize(
    ("trials", "space", "words"),
    [(0, SPACE, "--trials=0 cannot work"), (3, {}, "nothing to search: every setting is given")],
)
def test_what_cannot_be_searched_is_told(trainer, tmp_path, trials, space, words):
    with pytest.raises(UsageError, match=words):
        search(tmp_path, trials, space=space)


def test_the_space_is_what_is_not_given():
    everything = space_of(BASE)
    assert everything == SEARCH["bag"]
    given = space_of(BASE, fixed=["size", "learning_rate", "task", "model"])
    assert everything.keys() - given.keys() == {"size.embedding_dim", "learning_rate"}
    assert space_of(BASE, ["learning_rate"], ["size"]).keys() == {"learning_rate"}
    assert "batch_tokens" not in space_of(BASE, fixed=["batch_size"])
    tracks = space_of(Config(task="japanese_vowels", model="bag"))
    assert not {"word_vectors", "word_dropout_rate", "embedding_step_rate"} & tracks.keys()
    for begun in ({"warm_start": "runs/a"}, {"pretrained": "runs/a"}):
        rest = space_of(Config(task="tweets", model="bag", **begun))
        assert not {"size.embedding_dim", "word_vectors"} & rest.keys()
    base = Config(task="tweets", model="bag", size="small,embedding_dim=7")
    assert tuning._configured(base, {"size.embedding_dim": 20}).size == "small,embedding_dim=20"
    with pytest.raises(UsageError, match="unknown search 'learning': did you mean 'learning_rate'"):
        space_of(BASE, ["learning"])


def test_what_is_given_is_not_searched():
    with pytest.raises(UsageError, match=r"--search=dropout_rate cannot work: .*dropout_rate=0\.3"):
        space_of(BASE, ["dropout_rate"], ["dropout_rate"])
    sized = Config(task="tweets", model="bag", size="small,embedding_dim=7")
    with pytest.raises(UsageError, match=r"=size\.embedding_dim cannot work: .*embedding_dim=7"):
        space_of(sized, ["size.embedding_dim"], ["size"])
    # Of a size that is given by its name, single numbers may be searched.
    small = space_of(BASE, ["size.embedding_dim"], ["size"])
    assert small.keys() == {"size.embedding_dim"}


@pytest.mark.parametrize("family", MODELS)
def test_every_family_can_be_what_its_space_says(family):
    ends = [
        {
            name: (of.low, of.high)[end] if isinstance(of, Range) else of.values[-end]
            for name, of in SEARCH[family].items()
        }
        for end in (0, 1)
    ]
    for values in ends:
        config = tuning._configured(Config(task="tweets", model=family), values)
        assert config.size.startswith(f"{SIZES[0]},")
        MODELS[family](
            TokenInputs(9),
            3,
            size=config.size,
            dropout_rate=config.dropout_rate,
            word_dropout_rate=config.word_dropout_rate,
            recurrent_dropout_rate=config.recurrent_dropout_rate,
        )


def test_a_range_that_holds_nothing_is_refused():
    with pytest.raises(ValueError, match=r"from 3\.0 to 2\.0 holds nothing"):
        Range(3.0, 2.0)
    with pytest.raises(ValueError, match=r"from 0\.0 has no order of magnitude"):
        Range(0.0, 2.0, log=True)
