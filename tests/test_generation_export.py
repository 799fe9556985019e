"""What is exported writes, anywhere, what the model wrote here."""

import json

import pytest
import tensorflow as tf

from tests.exports import assert_stock_ops_alone, run_python
from tests.generators import CAUSAL, LSTM, WORDS, make_pretrained
from zoo import export as export_module
from zoo.errors import RunError
from zoo.export import load_servable
from zoo.generation import Generator
from zoo.generation_config import GenerationConfig
from zoo.generation_export import export_generator

PROMPTS = ["The film", "", "it's never good, see again!", "ünknown 片 was"]

# A process that has TensorFlow, and nothing of ours.
FRESH = """
import sys

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("zoo", "tensorflow_datasets"):
            raise ImportError(name)

sys.meta_path.insert(0, Closed())
import json
import tensorflow as tf

generate = tf.saved_model.load(sys.argv[1]).signatures["generate"]
answers = []
for temperature, seed in json.loads(sys.argv[3]):
    answer = generate(
        prompt=tf.constant(json.loads(sys.argv[2])),
        max_new_tokens=tf.constant(9),
        temperature=tf.constant(temperature),
        seed=tf.constant(seed),
    )
    answers.append([text.decode() for text in answer["text"].numpy()])
print(json.dumps(answers))
"""


def export(folder, *arguments, **options):
    pretrained = make_pretrained(*arguments, **options)
    generator = Generator(pretrained.model, pretrained.encoder)
    return generator, export_generator(generator, pretrained, "writer", folder)


@pytest.fixture(
    scope="module", params=[CAUSAL[1], *CAUSAL[3:5]], ids=lambda case: f"{case[0]}-{case[1][6:]}"
)
def exported(request, tmp_path_factory):
    return export(tmp_path_factory.mktemp("saved_models"), *request.param)


@pytest.fixture(scope="module")
def lstm(tmp_path_factory):
    return export(tmp_path_factory.mktemp("saved_models"))


def test_greedy_text_is_the_generators(exported):
    generator, folder = exported
    loaded = tf.saved_model.load(str(folder))
    request = {"max_new_tokens": tf.constant(9), "seed": tf.constant(0)}
    config = GenerationConfig(max_new_tokens=9, temperature=0.0)
    for name in ("generate", "serving_default"):
        answer = loaded.signatures[name](
            prompt=tf.constant(PROMPTS), temperature=tf.constant(0.0), **request
        )
        expected = ["".join(generator.stream(prompt, config)) for prompt in PROMPTS]
        assert [text.decode() for text in answer["text"].numpy()] == expected
        assert answer["ids"].shape == (len(PROMPTS), 9)


def test_it_holds_stock_ops_alone_and_no_gradient(exported):
    _, folder = exported
    assert_stock_ops_alone(tf.saved_model.load(str(folder)), "generate")
    assert b"CustomGradient" not in (folder / "saved_model.pb").read_bytes()


def test_a_fresh_process_without_this_package_writes_the_same(lstm, tmp_path):
    generator, folder = lstm
    asked = [(0.0, 0), (1.5, 5), (1.5, 5), (1.5, 6)]
    done = run_python(["-c", FRESH, folder, json.dumps(PROMPTS), json.dumps(asked)], tmp_path)
    greedy, one, same, other = json.loads(done.stdout)
    assert one == same != other
    for found, (temperature, seed) in ((greedy, asked[0]), (one, asked[1])):
        config = GenerationConfig(max_new_tokens=9, temperature=temperature, seed=seed)
        # At random, the words of the first row are those of a text that is written alone.
        for row in range(len(PROMPTS) if temperature == 0 else 1):
            assert found[row] == "".join(generator.stream(PROMPTS[row], config))


def test_a_number_that_cannot_be_is_an_error_of_the_request(lstm):
    generate = tf.saved_model.load(str(lstm[1])).signatures["generate"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="temperature must be a finite"):
        generate(
            prompt=tf.constant(["the"]),
            max_new_tokens=tf.constant(1),
            temperature=tf.constant(-1.0),
            seed=tf.constant(0),
        )


def test_the_card_says_what_it_is(lstm):
    extra = lstm[1] / "assets.extra"
    card = json.loads((extra / "card.json").read_text("utf-8"))
    assert card["name"] == "writer"
    assert card["data"] == {"tasks": ["tweets"], "text_files": []}
    assert (card["model"], card["size"]) == ("lstm", LSTM)
    assert set(card["inputs"]) == {"prompt", "max_new_tokens", "temperature", "seed"}
    assert card["tokens"] == {"unit": "word", "max_length": 13}
    assert card["metrics"]["validation"]["perplexity"] == 9.5
    assert card["versions"] == {"tensorflow": "2.3.5"}  # of then, not of now
    assert tuple((extra / "vocabulary.txt").read_text("utf-8").split()) == WORDS
    assert (extra / "tf_serving_warmup_requests").stat().st_size > 0


def test_who_classifies_is_told_that_it_writes(lstm):
    with pytest.raises(RunError, match="writes texts, and classifies none"):
        load_servable(lstm[1])


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "write_warmup", full)
    with pytest.raises(RunError, match="No space left on device"):
        export(tmp_path / "saved" / "models")
    assert not list(tmp_path.iterdir())
