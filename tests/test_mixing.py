"""The weights must be those of the least log-loss, whatever the members say."""

import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import RunError
from zoo.metrics import softmax
from zoo.mixing import Mix, fit_mix, held_out_log_loss


def log_loss(mix, logits, labels):
    return -mix.log_probabilities(logits)[np.arange(len(labels)), labels].mean()


def alone(number, members):
    return Mix(tuple(np.eye(members)[number].tolist()), 1.0)


@st.composite
def answers(draw, most_members=5):
    """Members from useless to all-knowing, from unsure to far too sure."""
    members, rows, classes = (
        draw(st.integers(*bounds)) for bounds in ((1, most_members), (1, 61), (2, 5))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(members, rows, classes))
    knowledge = draw(st.lists(st.floats(-1, 4), min_size=members, max_size=members))
    logits[:, np.arange(rows), labels] += np.array(knowledge)[:, None]
    return (logits * 10 ** draw(st.floats(-2, 2.5))).astype("float32"), labels


@settings(max_examples=100, deadline=None)
@given(answers())
def test_a_mix_is_one_and_never_worse_than_its_best_member(case):
    logits, labels = case
    mix = fit_mix(logits, labels)
    assert min(mix.weights) >= 0
    assert sum(mix.weights) == pytest.approx(1)
    assert (1 - 1e-5) / 20 <= mix.temperature <= 20 * (1 + 1e-5)
    best = min(log_loss(alone(m, len(logits)), logits, labels) for m in range(len(logits)))
    assert log_loss(mix, logits, labels) <= best + 1e-9


@settings(max_examples=100, deadline=None)
@given(answers(), st.data())
def test_no_other_mix_is_better(case, data):
    logits, labels = case
    mix = fit_mix(logits, labels)
    shares = data.draw(
        st.lists(st.floats(0, 1), min_size=len(logits), max_size=len(logits)).filter(
            lambda shares: sum(shares) > 0.01
        )
    )
    # Below 1, one that is never wrong is not looked for; the loss is convex, so that 1 will do.
    least = 1.0 if mix.temperature > 1 - 1e-6 else 1 / 20
    other = Mix(tuple(np.divide(shares, sum(shares)).tolist()), data.draw(st.floats(least, 20)))
    size = max(1.0, float(np.ptp(logits)))
    assert log_loss(mix, logits, labels) <= log_loss(other, logits, labels) + 1e-5 * size


@settings(max_examples=50, deadline=None)
@given(answers(most_members=1))
def test_one_member_is_itself_at_its_best_temperature(case):
    logits, labels = case
    mix = fit_mix(logits, labels)
    assert mix.weights == (1.0,)
    expected = softmax(logits[0].astype("float64") / mix.temperature)
    np.testing.assert_allclose(np.exp(mix.log_probabilities(logits)), expected, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(answers(), st.integers(0, 2**32 - 1))
def test_a_pool_does_not_lose_against_the_mean_of_its_members(case, seed):
    logits, labels = case
    weights = tuple(np.random.default_rng(seed).dirichlet(np.ones(len(logits))).tolist())
    losses = [log_loss(alone(m, len(logits)), logits, labels) for m in range(len(logits))]
    assert log_loss(Mix(weights, 1.0), logits, labels) <= np.dot(weights, losses) + 1e-9


def test_noise_is_not_heard():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 2_003)
    knows = rng.normal(size=(2, 2_003, 3))
    knows[:, np.arange(2_003), labels] += 1.5
    noise = rng.normal(size=(1, 2_003, 3)) * 4
    mix = fit_mix(np.concatenate([knows[:1], noise, knows[1:]]), labels)
    assert mix.weights[1] < 0.02
    assert mix.weights[0] == pytest.approx(mix.weights[2], abs=0.1)
    # Two that know by halves and independently are both to be believed in full.
    assert sum(mix.coefficients) > 1.5


def test_right_answers_alone_make_no_mix_surer_than_its_members():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 8)
    logits = rng.normal(size=(2, 8, 4))
    logits[:, np.arange(8), labels] += 6
    mix = fit_mix(logits, labels)
    assert mix.temperature == pytest.approx(1)
    best = min(log_loss(alone(m, 2), logits, labels) for m in range(2))
    assert log_loss(mix, logits, labels) <= best + 1e-9


def test_members_that_are_worse_than_nothing_end_at_the_highest_temperature():
    logits = np.array([[[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
    mix = fit_mix(logits, np.array([1, 1, 0]))
    assert mix.temperature == pytest.approx(20)


def test_without_scipy_it_is_one_line(monkeypatch):
    real = builtins.__import__

    def lacking(name, *rest):
        if name.split(".")[0] == "scipy":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(RunError, match=r"sequence-zoo\[ensemble\]"):
        fit_mix(np.zeros((1, 2, 2)), np.array([0, 1]))


def test_more_members_do_no_good_where_they_know_nothing():
    """On the rows that a mix is fitted to they always do, however little they know."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 60)
    logits = rng.normal(size=(20, 60, 2))
    logits[0, np.arange(60), labels] += 1.5
    fitted = [log_loss(fit_mix(some, labels), some, labels) for some in (logits[:1], logits)]
    assert fitted[1] < fitted[0]
    held_out = [held_out_log_loss(some, labels) for some in (logits[:1], logits)]
    assert held_out[1] > held_out[0] > fitted[0]


def test_no_row_is_asked_of_a_mix_that_was_fitted_to_it():
    labels = np.array([0, 1])
    logits = np.array([[[2.0, 0.0], [1.0, 0.0]]])
    of_the_other = [fit_mix(logits[:, [1 - row]], labels[[1 - row]]) for row in (0, 1)]
    expected = [
        log_loss(mix, logits[:, [row]], labels[[row]]) for row, mix in enumerate(of_the_other)
    ]
    assert held_out_log_loss(logits, labels) == pytest.approx(np.mean(expected))
    assert held_out_log_loss(logits[:, :1], labels[:1]) is None
