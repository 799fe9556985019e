"""Word vectors learnt from a task's own training text, before any label is looked at.

Positive pointwise mutual information of words and the words around them, factored by a truncated
singular value decomposition:

    PPMI[w, c] = max(0, log (p(w, c) / (p(w) p'(c)))),   p'(c) proportional to count(c)^0.75
    PPMI = U S V^T,   vector of w = row w of U S^0.5

Sources: Levy, Goldberg & Dagan 2015, "Improving Distributional Similarity with Lessons Learned
from Word Embeddings" (context smoothing, the square root of S); pairs weighted by one over their
distance as in Pennington et al. 2014; the decomposition: Halko, Martinsson & Tropp 2011.
"""

import numpy as np
from tqdm import tqdm

from zoo.text import FIRST_WORD_ID

_WINDOW_TOKENS = 8
_MAX_CONTEXTS = 10_000
_SMOOTHING = 0.75
_OVERSAMPLING = 20
_POWER_ITERATIONS = 3
_SLAB_ROWS = 1_000


def ppmi_vectors(
    values: np.ndarray,
    offsets: np.ndarray,
    num_ids: int,
    dim: int,
    *,
    seed: int = 0,
    standard_deviation: float = 0.5,
    progress: bool = False,
) -> np.ndarray:
    """Vectors of the words of a text, close where words keep the same company.

    Args:
        values: `int32[N]`, the token ids of all rows, one row after the other; the smaller an id,
            the more frequent its word, as `zoo.text.learn_vocabulary` has it.
        offsets: `int64[R + 1]`, where each row begins in `values`, and where the last one ends.
        num_ids: rows of the result.
        dim: size of a vector.
        seed: of the random projection with which the decomposition begins.
        standard_deviation: root mean square of the numbers in each word's vector.
        progress: whether to show a bar.

    Returns:
        `float32[num_ids, dim]`; zeros for padding, the unknown id and words without company.

    Raises:
        ValueError: if `dim` is not positive, or larger than the number of ids.

    Example:
        >>> text = np.array([2, 3, 4, 2, 5, 4, 2, 3, 4, 2, 5, 4], "int32")
        >>> vectors = ppmi_vectors(text, np.array([0, 6, 12]), num_ids=6, dim=2)
        >>> vectors.shape
        (6, 2)
    """
    if not 0 < dim <= num_ids:
        raise ValueError(f"dim must be between 1 and num_ids={num_ids}, not {dim}")
    table = _association(values, offsets, num_ids, progress)
    vectors = _left_factor(table, dim, seed, progress)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scale = standard_deviation * np.sqrt(dim)
    # A word without company has rounding noise for a vector; to normalise it would amplify that.
    alone = norms < 1e-5 * max(norms.max(), 1e-30)
    vectors = np.where(alone, 0.0, vectors / np.maximum(norms, 1e-30) * scale)
    vectors[:FIRST_WORD_ID] = 0.0
    return vectors.astype("float32")


def _association(
    values: np.ndarray, offsets: np.ndarray, num_ids: int, progress: bool
) -> np.ndarray:
    """PPMI of every word with the most frequent words around it, `float32[num_ids, contexts]`."""
    num_contexts = min(_MAX_CONTEXTS, num_ids)
    lengths = np.diff(offsets)
    # A window's width of nothing between two rows, so that no pair spans both.
    text = np.zeros(len(values) + len(lengths) * _WINDOW_TOKENS, "int64")
    text[np.arange(len(values)) + np.repeat(np.arange(len(lengths)), lengths) * _WINDOW_TOKENS] = (
        values
    )
    counts = np.zeros(num_ids * num_contexts, "float32")
    distances = range(1, _WINDOW_TOKENS + 1)
    for distance in tqdm(distances, "word vectors: pairs", disable=not progress):
        left, right = text[:-distance], text[distance:]
        for word, context in ((left, right), (right, left)):
            pair = (word >= FIRST_WORD_ID) & (context >= FIRST_WORD_ID) & (context < num_contexts)
            np.add.at(counts, word[pair] * num_contexts + context[pair], np.float32(1 / distance))
    table = counts.reshape(num_ids, num_contexts)
    total = table.sum(dtype="float64") or 1.0
    word_share = table.sum(axis=1, dtype="float64") / total
    context_share = table.sum(axis=0, dtype="float64") ** _SMOOTHING
    context_share /= context_share.sum() or 1.0
    word_share[word_share == 0] = 1.0
    context_share[context_share == 0] = 1.0
    # In place and a slab at a time: the table is the largest array of the whole training.
    for start in range(0, num_ids, _SLAB_ROWS):
        slab = table[start : start + _SLAB_ROWS]
        slab /= (total * word_share[start : start + _SLAB_ROWS, None]).astype("float32")
        slab /= context_share[None].astype("float32")
        np.maximum(slab, 1.0, out=slab)
        np.log(slab, out=slab)
    return table


def _left_factor(table: np.ndarray, dim: int, seed: int, progress: bool) -> np.ndarray:
    """U S^0.5 of the leading `dim` singular values, `float32[rows, dim]`."""
    rng = np.random.default_rng(seed)
    width = min(dim + _OVERSAMPLING, *table.shape)
    start = rng.standard_normal((table.shape[1], width)).astype("float32")
    basis = np.linalg.qr(table @ start)[0]  # float32[rows, width]
    for _ in tqdm(range(_POWER_ITERATIONS), "word vectors: factors", disable=not progress):
        basis = np.linalg.qr(table @ np.linalg.qr(table.T @ basis)[0])[0]
    small = basis.T @ table  # float32[width, contexts]
    squares, rotation = np.linalg.eigh((small @ small.T).astype("float64"))
    singular = np.sqrt(np.maximum(squares[::-1][:dim], 0))
    left = basis @ rotation[:, ::-1][:, :dim].astype("float32")  # float32[rows, dim]
    return left * np.sqrt(singular).astype("float32")
