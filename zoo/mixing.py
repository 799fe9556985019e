"""Several classifiers' answers made one, with weights that validation chooses.

A logarithmic opinion pool with one temperature, a product of experts:

    log p(c | x) = 1/T  sum_m w_m log p_m(c | x)  -  log Z(x)        w_m >= 0, sum_m w_m = 1, T > 0

with Z(x) what makes it sum to one over the classes c. Weights and temperature are those of the
least log-loss on the validation split. The pool was chosen over a mixture of probabilities,
`sum_m w_m p_m`, by what can be said of that minimum:

- in the coefficients a_m = w_m / T the log-loss is convex, being that of a logistic regression on
  the members' log-probabilities: there is one minimum, and a solver finds it. A mixture is convex
  in its weights but no more so once it has a temperature.
- each member at each temperature is one of the pools, so that on validation the best of them is
  never worse than the best member.
- at T = 1, whatever the weights, its log-loss is the mean of the members' less -log Z, which is at
  least 0 and the larger the less they agree (Heskes 1998): it never loses against their mean.

A mix's figures on validation are of the split that it was fitted to, if with one number a member:
another member never makes them worse. `held_out_log_loss`, by which members can be chosen, and the
figures on test, which is looked at once, are of rows that it was not fitted to.

Sources: Genest & Zidek 1986, "Combining Probability Distributions: A Critique and an Annotated
Bibliography"; Heskes 1998, "Selecting Weighting Factors in Logarithmic Opinion Pools"; Hinton 2002,
"Training Products of Experts by Minimizing Contrastive Divergence".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.errors import RunError

RULE = "softmax(sum_m weight_m log p_m / temperature)"
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 1 / 20, 20.0
# A solver leaves specks where it means nothing.
_SPECK = 1e-6


@dataclass(frozen=True)
class Mix:
    """How members' answers become one answer; the equation is the module's.

    Args:
        weights: of each member, at least 0, summing to one.
        temperature: above 0; below 1 for members that are too unsure, or too much of one mind.
    """

    weights: tuple[float, ...]
    temperature: float

    @property
    def coefficients(self) -> tuple[float, ...]:
        """What each member's log-probabilities are multiplied by."""
        return tuple(weight / self.temperature for weight in self.weights)

    def log_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Mixes the members' logits, `float[M, R, C]`, to `float64[R, C]`.

        Example:
            >>> likes, doubts = [[2.0, 0.0]], [[0.0, 0.0]]
            >>> mixed = Mix((0.5, 0.5), 1.0).log_probabilities(np.array([likes, doubts]))
            >>> np.exp(mixed).round(4).tolist()  # softmax of 2 / 2 and 0
            [[0.7311, 0.2689]]
        """
        return _log_softmax(_pooled(self.coefficients, _log_softmax(logits)))


def fit_mix(logits: np.ndarray, labels: np.ndarray) -> Mix:
    """The mix of the least log-loss, its temperature between 1/20 and 20.

    A mix that is right on every row has no least: the lower its temperature, the less. Then, as
    with `zoo.metrics.temperature`, none below 1 is taken.

    Solved in a_m = w_m / T, in which it is convex, by sequential least squares (Kraft 1988, "A
    software package for sequential quadratic programming"; `scipy.optimize`), from the best member.

    Args:
        logits: `float[M, R, C]`, the members' on the same rows, which none was trained on.
        labels: `int[R]`, the true classes.

    Returns:
        The mix, not worse than the best member.

    Raises:
        RunError: if scipy is not installed.

    Example:
        >>> knows = np.array([4.0, 4.0, 4.0, -4.0] * 2)  # in favour of class 0, which is right
        >>> guesses = np.array([1.0] * 4 + [-1.0] * 4)
        >>> logits = np.stack([np.stack([member, 0 * member], 1) for member in (knows, guesses)])
        >>> mix = fit_mix(logits, np.zeros(8, int))
        >>> [round(weight, 3) for weight in mix.weights], round(mix.temperature, 2)
        ([1.0, 0.0], 3.64)
    """
    try:
        from scipy import optimize
    except ImportError as error:
        raise RunError(
            "pip install 'sequence-zoo[ensemble]' brings scipy, which finds the weights"
        ) from error
    members = _log_softmax(logits)  # float64[M, R, C]
    rows = np.arange(len(labels))
    found = members[:, rows, labels].mean(axis=1)  # float64[M]

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = _log_softmax(_pooled(coefficients, members))  # float64[R, C]
        expected = np.einsum("rc,mrc->m", np.exp(mixed), members) / len(labels)  # float64[M]
        return -mixed[rows, labels].mean(), expected - found

    best = np.eye(len(members))[found.argmax()]

    def solve(least_temperature: float) -> np.ndarray:
        solution = optimize.minimize(
            loss,
            best,
            jac=True,
            method="SLSQP",
            bounds=[(0.0, 1 / least_temperature)] * len(members),
            constraints=optimize.LinearConstraint(
                np.ones((1, len(members))), 1 / _MOST_TEMPERATURE, 1 / least_temperature
            ),
            options={"ftol": 1e-12, "maxiter": 500},
        )
        coefficients = np.where(solution.x > _SPECK * solution.x.sum(), solution.x, 0.0)
        # Whatever ails a solver, this holds.
        return min(coefficients, best, key=lambda tried: loss(tried)[0])

    coefficients = solve(_LEAST_TEMPERATURE)
    total = coefficients.sum()
    if total > 1 and (_pooled(coefficients, members).argmax(axis=1) == labels).all():
        coefficients = solve(1.0)
        total = coefficients.sum()
    return Mix(tuple((coefficients / total).tolist()), float(1 / total))


def held_out_log_loss(logits: np.ndarray, labels: np.ndarray, folds: int = 10) -> float | None:
    """The log-loss of each row under the mix that `fit_mix` finds without it, averaged.

    The rows are dealt into `folds` parts, by chance but always alike; a mix is fitted to all parts
    but one and asked about that one, each in turn.

    Args:
        logits: `float[M, R, C]`, as `fit_mix` takes them.
        labels: `int[R]`, the true classes.
        folds: into how many parts; one a row if there are fewer rows.

    Returns:
        Nats a row; `None` if there are fewer than two rows.

    Example:
        >>> knows, guesses = [[3.0, 0.0]] * 9 + [[0.0, 3.0]], [[0.0, 3.0], [3.0, 0.0]] * 5
        >>> labels, alone = np.zeros(10, int), np.array([knows])
        >>> both = np.array([knows, guesses])
        >>> bool(held_out_log_loss(both, labels) > held_out_log_loss(alone, labels))
        True
    """
    folds = min(folds, len(labels))
    if folds < 2:
        return None
    part = np.random.default_rng(0).permutation(len(labels)) % folds
    total = 0.0
    for out in (part == fold for fold in range(folds)):
        mix = fit_mix(logits[:, ~out], labels[~out])
        found = mix.log_probabilities(logits[:, out])  # float64[R', C]
        total -= found[np.arange(len(found)), labels[out]].sum()
    return total / len(labels)


def _pooled(coefficients: Sequence[float] | np.ndarray, members: np.ndarray) -> np.ndarray:
    return np.tensordot(np.asarray(coefficients), members, axes=1)  # float64[R, C]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
