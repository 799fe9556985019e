"""The folder datasets/listops: TFDS's own test of it, its rule, its values, and what its card says.

The card's numbers of the training split of `lra` are not among them: that takes minutes.
"""

import collections
import functools
import hashlib
import importlib.util
import itertools
import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from zoo import prepared
from zoo.tasks import Task

DATASETS = Path(__file__).parents[2] / "datasets"
FOLDER = DATASETS / "listops"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tfds_test = load("listops_dataset_builder_test")
builder = tfds_test.builder
# For pytest to find it here: the folder is on no path and in no package.
ListOpsTest = tfds_test.ListOpsTest

CONFIGS = {config.name: config for config in builder.Builder.BUILDER_CONFIGS}
TINY = ListOpsTest.BUILDER_CONFIG_NAMES_TO_TEST[0]
QUICK = [(name, split) for name in CONFIGS for split in CONFIGS[name].splits]
QUICK.remove(("lra", "train"))
EACH_QUICK = pytest.mark.parametrize(("name", "split"), QUICK)


@functools.cache
def rows(name, split):
    return list(builder.examples(CONFIGS[name], split))


OPERATIONS = {
    "[MIN": lambda values: sorted(values)[0],
    "[MAX": lambda values: sorted(values)[-1],
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: str(sum(values))[-1],
}


def value_of(text):
    """A stack machine that reads the tokens backwards, where operators come after arguments."""
    machine = []
    for token in reversed(text.split()):
        if token == "]" or token.isdigit():
            machine.append(token)
            continue
        arguments = []
        while (top := machine.pop()) != "]":
            arguments.append(int(top))
        machine.append(str(OPERATIONS[token](arguments)))
    (value,) = machine
    return int(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("[MIN 3 9 ]", 3),
        ("[MAX 3 9 0 ]", 9),
        ("[SM 5 5 ]", 0),
        ("[SM 9 9 9 9 ]", 6),
        ("[SM 1 2 ]", 3),
        ("[MED 8 1 5 ]", 5),
        ("[MED 2 5 ]", 3),  # 3.5
        ("[MED 0 1 ]", 0),  # 0.5
        ("[MED 9 8 ]", 8),  # 8.5
        ("[MED 9 1 4 6 ]", 5),
        ("[MED 1 [MED 9 2 ] [MED 7 8 0 6 ] 3 ]", 4),  # of 1, 5, 6 and 3: 4
        ("[SM [MED 9 6 ] [SM 8 7 ] 9 ]", 1),  # 7 + 5 + 9
        ("[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]", 5),
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
        ("[MAX 2 [MED 4 7 ] [SM 9 2 ] ]", 5),
        ("[SM 1 [MAX 0 [MIN 9 [MED 8 6 4 4 ] ] ] [SM 9 9 ] ]", 4),  # 1 + 5 + 8
    ],
)
def test_values_by_hand(text, value):
    assert builder.evaluate(text) == value
    assert value_of(text) == value


@EACH_QUICK
def test_another_evaluator_agrees(name, split):
    assert len(rows(name, split)) == CONFIGS[name].splits[split][1]
    for text, value in rows(name, split):
        assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is neither a digit nor one of [MIN, [MAX, [MED, [SM"),
        ("[FIRST 1 2 ]", "'[FIRST' is neither"),
        ("10", "'10' is neither"),
        ("]", "']' is neither"),
        ("[MIN ]", "']' is neither"),
        ("[MIN 1  2 ]", "'' is neither"),
        ("[MIN 1 [MAX 2 3 ]", "[MIN has no closing ]"),
        ("1 2", "'2' comes after the end"),
        ("[MIN 1 2 ] ]", "']' comes after the end"),
    ],
)
def test_what_is_no_expression_is_refused(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        builder.evaluate(text)


def test_a_node_is_an_operator_or_a_digit_with_the_published_probabilities():
    """Each of the 720 equal outcomes of a draw, whatever comes after it."""
    first = collections.Counter()
    for draw in range(720):
        tokens = builder.draw_expression(itertools.chain([draw], itertools.repeat(719)), 2_000)
        first[tokens[0], len(tokens) - 2] += 1
    operators = {key: count for key, count in first.items() if key[0] in builder.OPERATORS}
    assert sum(operators.values()) == 720 // 4
    assert operators == {(op, n): 5 for op in builder.OPERATORS for n in range(2, 11)}
    digits = {key[0]: count for key, count in first.items() if key not in operators}
    assert digits == dict.fromkeys("0123456789", 54)


def test_the_tenth_level_is_of_digits_alone():
    last = collections.Counter()
    for draw in range(720):
        tokens = builder.draw_expression(itertools.chain([0] * 9, itertools.repeat(draw)), 2_000)
        assert tokens[:9] == ["[MIN"] * 9
        last[tokens[9]] += 1
    assert last == dict.fromkeys("0123456789", 72)


def test_a_tree_beyond_use_is_not_drawn_to_its_end():
    draws = itertools.repeat(44)  # [MIN with ten arguments, and digits where none may stand
    assert len(builder.draw_expression(draws, 50)) <= 50 + 10


@EACH_QUICK
def test_lengths_arguments_and_depths_keep_their_bounds(name, split):
    config = CONFIGS[name]
    arguments, depths, lengths = set(), set(), set()
    for text, _ in rows(name, split):
        tokens = text.split(" ")
        lengths.add(len(tokens))
        opened, deepest = [], 1
        for token in tokens:
            if token == "]":
                arguments.add(opened.pop())
                continue
            if opened:
                opened[-1] += 1
            if token in builder.OPERATORS:
                opened.append(0)
            else:
                assert token in builder.DIGITS
            deepest = max(deepest, len(opened) + (token in builder.DIGITS))
        assert not opened
        depths.add(deepest)
    assert config.min_tokens <= min(lengths)
    assert max(lengths) <= config.max_tokens
    assert arguments == set(range(2, 11))
    assert max(depths) == 10


def test_the_bounds_on_length_are_those_of_long_range_arena():
    assert (CONFIGS["lra"].min_tokens, CONFIGS["lra"].max_tokens) == (501, 1_999)
    counts = {split: count for split, (_, count) in CONFIGS["lra"].splits.items()}
    assert counts == {"train": 96_000, "validation": 2_000, "test": 2_000}


def test_a_second_run_draws_the_same():
    first = rows("short", "validation")
    np.random.seed(0)  # NumPy's global state is none of it
    assert list(builder.examples(CONFIGS["short"], "validation")) == first


def test_a_second_run_writes_the_same_bytes(tmp_path):
    written = []
    for run in ("one", "two"):
        made = builder.Builder(config=TINY, data_dir=tmp_path / run)
        made.download_and_prepare(file_format="tfrecord")
        files = sorted((tmp_path / run).rglob("*.tfrecord*"))
        written.append([(path.name, path.read_bytes()) for path in files])
    assert len(written[0]) == 3
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("train", "0fe79ec0be6003d060cb7d93979201e021a3b95d785e481aaf2864880d4fe402"),
        ("validation", "468be7852f20cc14c5d59bd40d24cb2b958b23bb5f4060ccf8aa1f2a1941ab86"),
        ("test", "802683b2eeb5b2043e1dd677662db2f506fbab1e7cbc445c7ef529e22bbbe109"),
    ],
)
def test_the_first_expressions_are_those_of_this_version(split, digest):
    """What changes them is a new version of the data set."""
    lines = [f"{text}\t{value}\n" for text, value in rows("short", split)[:100]]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest


@pytest.mark.parametrize("name", list(CONFIGS))
def test_no_text_stands_twice(name):
    texts = [text for config, split in QUICK if config == name for text, _ in rows(config, split)]
    assert len(set(texts)) == len(texts)


def test_repeats_are_dropped_within_a_split_and_across_splits():
    """Of four or five tokens there are so few expressions that the raw draws do repeat."""
    found = {split: [text for text, _ in builder.examples(TINY, split)] for split in TINY.splits}
    raw = {
        split: list(itertools.islice(builder.expressions(seed, 4, 5), count))
        for split, (seed, count) in TINY.splits.items()
    }
    assert len(set(raw["train"])) < len(raw["train"])
    assert set(raw["train"]) & set(found["test"])
    every = [text for texts in found.values() for text in texts]
    assert len(set(every)) == len(every) == 500
    # The split named first keeps what it draws.
    assert set(raw["test"]) <= set(found["test"])


def test_a_split_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'dev' is not in list"):
        next(builder.examples(TINY, "dev"))


def card_table(first_column):
    """The rows of the card's table of that heading, by configuration and split."""
    lines = iter((FOLDER / "README.md").read_text("utf-8").splitlines())
    heading = next(line for line in lines if line.startswith(f"| {first_column} |"))
    columns = cells(heading)[1:]
    next(lines)
    table = {}
    for line in itertools.takewhile(lambda line: line.startswith("|"), lines):
        what, *numbers = cells(line)
        name, split = what.replace("`", "").split()
        table[name, split] = dict(zip(columns, map(float, numbers), strict=True))
    return table


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def within_rounding(share):
    return pytest.approx(100 * share, abs=0.0501)


@EACH_QUICK
def test_the_card_states_the_class_balance(name, split):
    counts = collections.Counter(value for _, value in rows(name, split))
    stated = card_table("values")[name, split]
    assert list(stated) == list("0123456789")
    for value, percent in stated.items():
        assert percent == within_rounding(counts[int(value)] / len(rows(name, split)))


@pytest.mark.parametrize("key", [("short", "train"), ("short", "test"), ("lra", "test")])
def test_the_card_states_the_lengths(key):
    lengths = [len(text.split()) for text, _ in rows(*key)]
    quantiles = np.quantile(lengths, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1], method="lower")
    assert list(card_table("tokens")[key].values()) == quantiles.tolist()


def test_the_card_states_what_trivial_rules_reach():
    guess = {"[MIN": 0, "[MAX": 9, "[MED": 4, "[SM": 1}
    for key, stated in card_table("rules").items():
        always = [value == 0 for _, value in rows(*key)]
        outermost = [value == guess[text.split()[0]] for text, value in rows(*key)]
        assert stated["always 0"] == within_rounding(statistics.mean(always))
        assert stated["outermost operator"] == within_rounding(statistics.mean(outermost))
    # The rules are the best of their kind on the training split.
    by_operator = {operator: collections.Counter() for operator in guess}
    for text, value in rows("short", "train"):
        by_operator[text.split()[0]][value] += 1
    assert {op: counts.most_common(1)[0][0] for op, counts in by_operator.items()} == guess
    assert sum(by_operator.values(), collections.Counter()).most_common(1)[0][0] == 0


def test_the_folder_is_documented():
    metadata = builder.Builder.get_metadata()
    assert "Licence" in metadata.description
    assert "Nangia" in metadata.citation
    assert "Tay" in metadata.citation
    assert "ml.task.text-classification" in metadata.tags


def test_the_expressions_are_prepared_and_read_back_by_name(tmp_path):
    task = Task(
        name="listops/short",
        builder="listops/short",
        version="1.0.0",
        feature="text",
        label="label",
        classes=tuple("0123456789"),
        train="train",
        validation="validation",
        test="test",
        offline=True,
    )
    assert prepared.prepare(task, tmp_path, DATASETS, progress=False)
    assert not prepared.prepare(task, tmp_path, DATASETS, progress=False)
    by_name = tfds.builder("listops/short", data_dir=tmp_path)
    assert by_name.info.features["label"].names == list(task.classes)
    assert by_name.as_dataset(split=task.train).cardinality() == 20_000
    for split in (task.validation, task.test):
        read = by_name.as_dataset(split=split).as_numpy_iterator()
        found = sorted((example["text"].decode(), int(example["label"])) for example in read)
        assert found == sorted(rows("short", split))
