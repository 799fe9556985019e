import dataclasses

import pytest

from zoo.config import Config
from zoo.errors import UsageError
from zoo.models import MODELS, WITHOUT_EMBEDDING
from zoo.tasks import TASKS, Task


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 0}, "--max_length=0 cannot work: it must be at least 1"),
        ({"vocabulary_size": 2}, "--vocabulary_size=2 cannot work: it must be at least 3"),
        ({"epochs": 0}, "--epochs=0 cannot work: it must be at least 1"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0 cannot work: it must be above 0"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan cannot work"),
        ({"learning_rate": float("inf")}, "--learning_rate=inf cannot work"),
        (
            {"dropout_rate": 1.0},
            "--dropout_rate=1.0 cannot work: it must be at least 0 and below 1",
        ),
        ({"dropout_rate": -0.1}, "--dropout_rate=-0.1 cannot work"),
        ({"warmup_rate": 1.0}, "--warmup_rate=1.0 cannot work"),
        ({"average_decay": 1.0}, "--average_decay=1.0 cannot work"),
        ({"weight_decay": -1.0}, "--weight_decay=-1.0 cannot work: it must be at least 0"),
        ({"seed": -1}, "--seed=-1 cannot work"),
        ({"seed": 2**32}, "--seed=4294967296 cannot work"),
        (
            {"max_length": 10**20},
            "cannot work: it must be at most 2147483647",
        ),
        ({"epochs": 2.0}, "--epochs=2.0 cannot work: it must be of type int"),
        ({"epochs": True}, "--epochs=True cannot work: it must be of type int"),
        ({"batch_tokens": 0}, "--batch_tokens=0 --batch_size=0 cannot work: exactly one of them"),
        ({"batch_size": 8}, "--batch_tokens=8192 --batch_size=8 cannot work"),
        (
            {"warm_start": "a", "pretrained": "b"},
            "--warm_start=a --pretrained=b cannot work: training begins with one run",
        ),
        (
            {"pretrained": "b", "word_vectors": "ppmi"},
            "--word_vectors=ppmi --pretrained=b cannot work",
        ),
        (
            {"pretrained": "b", "task": "japanese_vowels"},
            "--pretrained=b cannot work: japanese_vowels has no words",
        ),
        (
            {"pretrained": "b", "model": "nb_ngram"},
            "--pretrained=b cannot work: nb_ngram has no embedding",
        ),
        (
            {"layer_step_rate": 0.0},
            "--layer_step_rate=0.0 cannot work: it must be at most 1 and above 0",
        ),
        ({"task": "imdb_review"}, "unknown task 'imdb_review': did you mean 'imdb_reviews'?"),
        ({"model": "bilstn"}, "unknown model 'bilstn': did you mean 'bilstm'?"),
        ({"unit": "words"}, "unknown unit 'words': did you mean 'word'?"),
        ({"select_by": "acuracy"}, "unknown select_by 'acuracy': did you mean 'accuracy'?"),
        ({"on_nan": "rollbak"}, "unknown on_nan 'rollbak': did you mean 'rollback'?"),
        ({"keep_checkpoints": 0}, "--keep_checkpoints=0 cannot work: it must be at least 1"),
        ({"mixed_precision": "float15"}, "did you mean 'float16'?"),
        ({"word_vectors": "pmi"}, "did you mean 'ppmi'?"),
        ({"unit": "wordpiece"}, "--unit=wordpiece cannot work without --pretrained"),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(values, message):
    with pytest.raises(UsageError) as caught:
        Config(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"word_vectors": "ppmi"}, {"word_dropout_rate": 0.1}, {"pretrained": "minilm"}]
)
def test_what_is_for_words_is_refused_for_features(monkeypatch, values):
    tracks = Task("tracks", "t", "1.0.0", "x", "y", ("a", "b"), "train", "val", None, "features")
    monkeypatch.setitem(TASKS, "tracks", tracks)
    assert Config(task="tracks").task == "tracks"
    with pytest.raises(UsageError, match="tracks has no words"):
        Config(task="tracks", **values)


@pytest.mark.parametrize("model", sorted(WITHOUT_EMBEDDING))
def test_what_a_model_without_an_embedding_cannot_take_is_refused(model):
    with pytest.raises(UsageError, match=f"--model={model} cannot work: japanese_vowels has"):
        Config(task="japanese_vowels", model=model)
    for name, value in (("word_vectors", "ppmi"), ("embedding_step_rate", 0.5)):
        message = f"--{name}={value} cannot work: {model} has no embedding; leave it out"
        with pytest.raises(UsageError, match=message):
            Config(model=model, **{name: value})


def test_a_whole_number_will_do_for_a_fraction():
    config = Config(learning_rate=1)
    assert isinstance(config.learning_rate, float)


def test_json_round_trip():
    config = Config(task="glue/sst2", batch_tokens=0, batch_size=32, seed=7)
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(UsageError, match="unknown field 'epoch': did you mean 'epochs'"):
        Config.from_json({"epoch": 3})


def test_differences_name_every_field_that_changes_the_result():
    there, asked = (
        Config(seed=1, epochs=3),
        Config(seed=2, epochs=4, checkpoint_seconds=1.0, keep_checkpoints=9),
    )
    assert there.differences(asked) == ["epochs: 3 there, 4 asked", "seed: 1 there, 2 asked"]


def test_every_field_has_help_and_group():
    for field in dataclasses.fields(Config):
        assert field.metadata["help"]
        assert field.metadata["group"] in ("data", "model", "optimisation", "run")


def test_help_names_all_models_and_tasks():
    about = {field.name: field.metadata["help"] for field in dataclasses.fields(Config)}
    assert about["model"].split(": ")[1].split(", ") == list(MODELS)
    assert about["task"].split(": ")[1].split(", ") == list(TASKS)
