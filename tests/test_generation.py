"""A model writes what, asked for each word from the beginning, it would write."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generators import CAUSAL, LSTM, TRANSFORMER, WORDS, make_pretrained, write_run
from zoo.errors import RunError, UsageError
from zoo.generation import Generator, load_generator
from zoo.generation_config import GenerationConfig
from zoo.generation_export import Writing

GREEDY = {"temperature": 0.0, "max_new_tokens": 7}
PROMPTS = ["The film", "", "it's never good, see again!", "ünknown 片 was", "again"]


def make_generator(*arguments, **options):
    pretrained = make_pretrained(*arguments, **options)
    return Generator(pretrained.model, pretrained.encoder)


@pytest.fixture(scope="module", params=CAUSAL, ids=lambda case: f"{case[0]}-{case[1][6:]}")
def pretrained(request):
    return make_pretrained(*request.param)


@pytest.fixture(scope="module")
def generator(pretrained):
    return Generator(pretrained.model, pretrained.encoder)


@pytest.fixture(scope="module")
def lstm():
    return make_generator()


def write(generator, prompt, sample=0, **options):
    return "".join(generator.stream(prompt, GenerationConfig(**options), sample))


@functools.cache
def graph_of(generator):
    return Writing(generator).generate


def in_graph(generator, prompts, number=7, temperature=0.0, seed=0):
    answer = graph_of(generator)(
        tf.constant(prompts, tf.string),
        tf.constant(number),
        tf.constant(temperature),
        tf.constant(seed),
    )
    return [text.decode() for text in answer["text"].numpy()], answer["ids"].numpy()


def greedy_ids(pretrained, prompt, number):
    """Each word from the beginning, by the model itself and in NumPy."""
    ids = pretrained.encoder(tf.constant([prompt])).numpy()[0].tolist()
    embedding = pretrained.model.get_layer("embedding").embeddings.numpy()
    bias = pretrained.model.get_layer("next").word_bias.numpy()
    new = []
    for _ in range(number):
        queries = pretrained.model({"ids": np.array([ids + new], "int32")}, training=False)
        scores = embedding @ queries[0, -1].numpy() + bias
        new.append(2 + int(scores[2:].argmax()))  # neither padding nor the unknown word
    return new


def test_greedy_text_is_that_of_the_model_from_the_beginning(pretrained, generator):
    texts, ids = in_graph(generator, PROMPTS)
    for prompt, text, row in zip(PROMPTS, texts, ids, strict=True):
        assert row.tolist() == greedy_ids(pretrained, prompt, 7)
        assert text == write(generator, prompt, **GREEDY)
        assert text.startswith(prompt)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=4), st.integers(0, 2**31 - 1))
def test_rows_do_not_depend_on_those_beside_them(generator, prompts, seed):
    """Padded to the longest, each gets the ids that it would get alone, at random for the first."""
    together, ids = in_graph(generator, prompts)
    for prompt, text, row in zip(prompts, together, ids, strict=True):
        alone, (only,) = in_graph(generator, [prompt])
        assert (text, row.tolist()) == (alone[0], only.tolist())
    first, _ = in_graph(generator, prompts, temperature=1.0, seed=seed)
    assert first[0] == in_graph(generator, prompts[:1], temperature=1.0, seed=seed)[0][0]


def test_a_seed_is_a_text_and_the_graph_writes_the_same_one(lstm):
    options = {"temperature": 1.5, "max_new_tokens": 9}
    texts = [write(lstm, "the film", seed=seed, **options) for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]
    assert in_graph(lstm, ["the film"], 9, 1.5, seed=5)[0] == texts[:1]
    assert write(lstm, "the film", sample=1, seed=5, **options) != texts[0]


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}])
def test_a_narrow_choice_is_the_likeliest_word(lstm, narrow):
    assert write(lstm, "see", max_new_tokens=7, **narrow) == write(lstm, "see", **GREEDY)


@pytest.mark.parametrize("unit", ["word", "character", "byte"])
def test_padding_and_the_unknown_word_are_never_written(unit):
    generator = make_generator(unit=unit)
    likely = generator._decoder._queries.word_bias
    likely.assign(np.where(np.arange(likely.shape[0]) < 2, 50.0, 0.0))
    for temperature in (0.0, 1.0, 9.0):
        _, ids = in_graph(generator, ["a", "b"], 20, temperature)
        assert ids.min() >= 2


def test_bytes_come_as_text_whatever_they_are():
    generator = make_generator(unit="byte", size=LSTM)
    for seed in range(3):
        text = write(generator, b"\xc3", temperature=5.0, max_new_tokens=50, seed=seed)
        assert [text] == in_graph(generator, [b"\xc3"], 50, 5.0, seed)[0]
        assert "\ufffd" in text  # bytes by chance are seldom UTF-8


def test_it_says_which_words_it_does_not_know(lstm):
    assert lstm.unknown("The zebra saw the Zebra, again?") == ["zebra", "saw", "?"]
    assert lstm.unknown("the film") == lstm.unknown("") == []
    options = {"temperature": 1.5, "max_new_tokens": 20}
    good, one, other = (write(lstm, t, **options)[5:] for t in ("good ", "zebra", "horse"))
    assert one == other != good


def test_of_a_long_prompt_the_end_is_read(lstm):
    long = " ".join(WORDS[:4] * 10)
    kept = " ".join((WORDS[:4] * 10)[-13:])
    endings = [write(lstm, text, **GREEDY).removeprefix(text) for text in (long, kept)]
    assert endings[0] == endings[1]


@pytest.mark.parametrize(
    ("prompts", "number"), [([], 3), (["the", "film"], 0), (["\x00", b"\xff", "\n"], 2)]
)
def test_odd_requests_get_an_answer(lstm, prompts, number):
    texts, ids = in_graph(lstm, prompts, number)
    assert ids.shape == (len(prompts), number)
    assert len(texts) == len(prompts)


@pytest.mark.parametrize(
    ("number", "temperature", "message"),
    [
        (-1, 0.0, "max_new_tokens must be 0 to 4096"),
        (4_097, 0.0, "max_new_tokens must be 0 to 4096"),
        (1, -0.1, "temperature must be a finite number"),
        (1, float("nan"), "temperature must be a finite number"),
        (1, float("inf"), "temperature must be a finite number"),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_the_graph(lstm, number, temperature, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        in_graph(lstm, ["the"], number, temperature)


def test_no_more_is_written_than_positions_were_learnt():
    generator = make_generator("transformer", f"{TRANSFORMER},position=learned,max_positions=17")
    assert len(in_graph(generator, ["the film"], 15)[1][0]) == 15
    with pytest.raises(tf.errors.InvalidArgumentError, match="make more than 17 tokens"):
        in_graph(generator, ["the film"], 16)
    with pytest.raises(UsageError, match=r"--max_new_tokens=16 cannot work .* so at most 15"):
        write(generator, "the film", temperature=0.0, max_new_tokens=16)


def test_a_run_is_read_back(tmp_path):
    write_run(tmp_path / "run")
    generator, pretrained = load_generator(tmp_path / "run")
    assert pretrained.config.model == "lstm"
    assert write(generator, "the film", **GREEDY) == write(make_generator(), "the film", **GREEDY)


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "bilstm", "objective": "masked"},
        {"model": "bilstm", "objective": "causal"},
        {"model": "transformer", "size": TRANSFORMER[: TRANSFORMER.rindex(",")]}
        | {"objective": "masked"},
    ],
)
def test_a_model_that_is_not_causal_is_refused_by_name(tmp_path, arguments):
    write_run(tmp_path / "run", **arguments)
    message = f"holds no causal language model .--model={arguments['model']} .*--model=lstm"
    with pytest.raises(UsageError, match=message):
        load_generator(tmp_path / "run")


def test_what_is_no_text_or_no_run_is_refused(tmp_path):
    write_run(tmp_path / "run", unit="bigram")
    with pytest.raises(UsageError, match="--unit=bigram cannot be turned back into text"):
        load_generator(tmp_path / "run")
    with pytest.raises(RunError, match="holds no finished pretraining"):
        load_generator(tmp_path / "other")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_new_tokens", 0, "at least 1 and at most 4096"),
        ("max_new_tokens", 4_097, "at least 1 and at most 4096"),
        ("num_samples", 0, "at least 1"),
        ("temperature", -0.5, "at least 0"),
        ("temperature", float("inf"), "at least 0"),
        ("top_k", -1, "at least 0"),
        ("top_p", 0.0, "above 0"),
        ("top_p", 1.1, "at most 1"),
        ("seed", 2**31, "at most 2147483647"),
    ],
)
def test_settings_that_cannot_work_are_refused(field, value, words):
    with pytest.raises(UsageError, match=words):
        GenerationConfig(**{field: value})
