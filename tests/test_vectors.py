import numpy as np
import pytest

from zoo import vectors
from zoo.vectors import ppmi_vectors


def rows_of(sentences):
    values = np.array([token for row in sentences for token in row], "int32")
    offsets = np.cumsum([0] + [len(row) for row in sentences])
    return values, offsets


def plain_ppmi(sentences, num_ids):
    """The equation of the module's docstring, pair by pair."""
    counts = np.zeros((num_ids, num_ids))
    for row in sentences:
        for i, word in enumerate(row):
            for j, context in enumerate(row):
                if 0 < abs(i - j) <= 8 and word > 1 and context > 1:
                    counts[word, context] += 1 / abs(i - j)
    smooth = counts.sum(0) ** 0.75
    p_context = smooth / smooth.sum()
    p_word = counts.sum(1) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.log(counts / counts.sum() / (p_word[:, None] * p_context[None]))
    return np.where(counts > 0, np.maximum(table, 0), 0)


@pytest.fixture
def sentences():
    rng = np.random.default_rng(7)
    return [list(rng.integers(1, 23, rng.integers(1, 31))) for _ in range(40)]


def test_table_is_the_equation(sentences):
    table = vectors._association(*rows_of(sentences), 23, progress=False)
    np.testing.assert_allclose(table, plain_ppmi(sentences, 23), atol=1e-4)


def test_factors_are_the_svd_of_the_table(sentences):
    table = plain_ppmi(sentences, 23).astype("float32")
    left, singular, _ = np.linalg.svd(table)
    expected = (left * singular) @ left.T
    factor = vectors._left_factor(table, 23, seed=0, progress=False)
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-3)


def test_words_in_the_same_company_come_out_close():
    # 10 and 11 stand between the same neighbours, 12 between others.
    rng = np.random.default_rng(0)
    near = [[2, 3, rng.choice([10, 11]), 4, 5] for _ in range(200)]
    far = [[6, 7, 12, 8, 9] for _ in range(100)]
    result = ppmi_vectors(*rows_of(near + far), 13, 5)
    assert result[10] @ result[11] > 0.9 * (result[10] @ result[10])
    assert abs(result[10] @ result[12]) < 0.1 * (result[10] @ result[10])


def test_scale_and_empty_rows(sentences):
    result = ppmi_vectors(*rows_of([*sentences, []]), 31, 7, standard_deviation=0.25)
    assert result.shape == (31, 7)
    assert result.dtype == np.float32
    assert not result[:2].any(), "padding and the unknown word"
    assert not result[23:].any(), "words that never occur"
    np.testing.assert_allclose(np.sqrt((result[2:23] ** 2).mean(1)), 0.25, rtol=1e-5)


def test_same_seed_same_vectors(sentences):
    first, second = (ppmi_vectors(*rows_of(sentences), 23, 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_text_without_a_pair_gives_zeros():
    assert not ppmi_vectors(np.array([2, 3], "int32"), np.array([0, 1, 2]), 5, 2).any()


@pytest.mark.parametrize("dim", [0, 24])
def test_impossible_dim_is_refused(sentences, dim):
    with pytest.raises(ValueError, match=f"dim must be between 1 and num_ids=23, not {dim}"):
        ppmi_vectors(*rows_of(sentences), 23, dim)
