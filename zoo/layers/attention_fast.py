"""Attention on a processor under TensorFlow: a block of scores at a time, its gradient by hand."""

import math
from typing import Any

import keras

from zoo.layers.attention_blocks_fast import BLOCK, Blocks, larger, parts, sizes, smaller
from zoo.layers.own_gradient_fast import own_gradient, plain_loops_wanted

# With an order of steps, keys that no query of a segment may see are not looked at.
SEGMENTS = 4
SHORTEST_SEGMENT = 64


def takes(query: Any, key: Any, value: Any, **options: Any) -> bool:
    """Whether `blocked_attention` is the way to go.

    It is under TensorFlow on a processor, for floats of which not all scores fit into one block:
    within one, there is nothing to gain. A size that is not known counts as a large one, but for
    one query alone, whose scores are fewer than the numbers of its keys. It is not within
    `plain_loops`.

    Args:
        query: `float[B, T, H, K]`.
        key: `float[B, S, G, K]`.
        value: `float[B, S, G, V]`.
        **options: the others of `blocked_attention`; it does them all.

    Example:
        >>> from keras import ops
        >>> takes(*[ops.ones((1, 8, 1, 2))] * 3)
        False
    """
    del options
    ranks = {len(side.shape) for side in (query, key, value)}
    if keras.backend.backend() != "tensorflow" or ranks != {4} or plain_loops_wanted():
        return False
    import tensorflow as tf

    if not all(isinstance(x, tf.Tensor | tf.Variable) for x in (query, key, value)):
        return False
    if not query.dtype.is_floating or tf.config.list_logical_devices("GPU"):
        return False
    batch, rows, heads, _ = query.shape
    known = (batch, rows, heads, key.shape[1])
    return 0 not in known and rows != 1 and (None in known or math.prod(known) > BLOCK)


def blocked_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: int | None = None,
    soft_cap: float | None = None,
) -> Any:
    """The context of `zoo.layers.dot_product.portable_attention`, without ever all its scores.

    Works on one head and one block of queries at a time, or on several heads if they are short,
    and computes the weights P anew for the gradient, unless all of them are few. With dC the
    gradient of the context C:

        dV = P^T dC,   dS = P (dC V^T - sum(dC C)),   dQ = dS K,   dK = dS^T Q

    where the sum, of each row, is one more column of dC against a column of ones in V. A bias has
    a gradient too, which costs a second pass, if it is asked for.

    Source: Rabe and Staats 2021, "Self-attention Does Not Need O(n^2) Memory"; Dao et al. 2022,
    "FlashAttention", appendix B.

    Args:
        query: `float[B, T, H, K]`.
        key: `float[B, S, G, K]`, G a divisor of H: head h looks at head `h // (H / G)`.
        value: `float[B, S, G, V]`.
        scale: factor of the scores.
        mask: true or non-zero where attending is allowed; must broadcast to `[B, H, T, S]`.
        bias: added to the scores; must broadcast to `[B, H, T, S]`.
        causal: whether a query sees no step after its own.
        window: how many steps, itself included, a query sees to either side.
        soft_cap: what no score's size may reach, before the bias.

    Returns:
        The context `float[B, T, H, V]`; zeros where a query may attend to nothing.

    Example:
        >>> import tensorflow as tf
        >>> one = tf.ones((1, 3, 4, 2))
        >>> blocked_attention(one, one[:, :, :2], one[:, :, :2], scale=1.0, causal=True).shape
        TensorShape([1, 3, 4, 2])
    """
    import tensorflow as tf

    batch, rows, heads, _ = sizes(tf, query)
    _, columns, groups, size = sizes(tf, value)
    query = query * tf.cast(scale, query.dtype)
    if groups != heads:
        key, value = (tf.repeat(side, heads // groups, axis=2) for side in (key, value))
    query, key, value = (_heads_first(tf, side) for side in (query, key, value))
    mask = None if mask is None else tf.cast(_wide(tf, mask, columns), tf.bool)
    bias = None if bias is None else _wide(tf, bias, columns)
    # A bias has one gradient, of all its columns.
    ordered = (causal or window is not None) and bias is None
    segments = _segments(tf, rows, columns, causal, window) if ordered else [(0, rows, 0, columns)]
    contexts = []
    for start, stop, low, high in segments:
        blocks = Blocks(
            batch, heads, start, stop, low, high, mask=mask, causal=causal, window=window
        )
        sides = query, key, value
        if ordered:
            sides = query[:, start:stop], key[:, low:high], value[:, low:high]
        contexts.append(_attend(blocks, sides, bias, soft_cap))
    context = contexts[0] if len(contexts) == 1 else tf.concat(contexts, 1)  # [BH, T, V]
    context = tf.reshape(context, (batch, heads, rows, size))
    return tf.transpose(context, (0, 2, 1, 3))  # [B, T, H, V]


def _attend(blocks: Blocks, sides: Any, bias: Any, soft_cap: float | None) -> Any:
    """The context `[BH, T, V]` of a query `[BH, T, K]`, key `[BH, S, K]` and value `[BH, S, V]`."""
    import tensorflow as tf

    extra = () if bias is None else (bias,)

    def weights(query: Any, key: Any, at: Any, bias: Any) -> tuple[Any, Any, Any]:
        """A block's weights, the rows that see something, and the slope of the cap."""
        scores, slope = tf.matmul(query, key, transpose_b=True), None
        dtype = scores.dtype
        hidden, alive = blocks.hidden(at, tf.float32 if dtype == tf.float16 else dtype)
        if soft_cap is not None or bias is not None or dtype == tf.float16:
            # Half precision is too coarse for these, and float16 too narrow for what is hidden.
            scores = tf.cast(scores, tf.float64 if dtype == tf.float64 else tf.float32)
        if dtype == tf.float16:
            scores = tf.clip_by_value(scores, -65_504.0, 65_504.0)
        if soft_cap is not None:
            bent = tf.tanh(scores / soft_cap)
            scores, slope = soft_cap * bent, tf.cast(1.0 - bent * bent, dtype)
        if bias is not None:
            scores += tf.cast(blocks.rows(bias, at), scores.dtype)
        if hidden is not None:
            scores += tf.cast(hidden, scores.dtype)
        # In float32 inside, whatever comes in and goes out.
        return tf.cast(tf.nn.softmax(scores), dtype), alive, slope

    def slopes(
        query: Any, key: Any, value: Any, upstream: Any, at: Any, bias: Any, known: Any = None
    ) -> Any:
        """A block's weights, and the gradients of its context and of its scores after the cap."""
        share, alive, slope = known or weights(query, key, at, bias)
        if alive is not None:
            upstream *= tf.cast(alive, upstream.dtype)
        of_scores = share * tf.matmul(upstream, value, transpose_b=True)
        return share, upstream, of_scores, slope

    kept = soft_cap is None and bias is None and blocks.keeps(sides[0].dtype)

    def attend(query: Any, key: Any, value: Any, *extra: Any) -> Any:
        bias = extra[0] if extra else None
        queries, keys, values = blocks.cut(query), blocks.cut_keys(key), blocks.cut_keys(value)

        def turn(at: Any) -> Any:
            head = at // blocks.turns
            share, alive, _ = weights(queries[at], keys[head], at, bias)
            context = tf.matmul(share, values[head])
            context = context if alive is None else context * tf.cast(alive, context.dtype)
            return [context, share] if kept else context

        arrays = blocks.fill(turn, [query.dtype] * (2 if kept else 1))
        context = blocks.join(arrays[0].stack(), value.shape[-1])

        def gradient(upstream: Any) -> Any:
            columns = [upstream, *_sum_columns(tf, upstream, context)]
            ones = tf.ones_like(value[:, :, :1])
            slopes_of = blocks.cut(tf.concat(columns, -1))
            wide = blocks.cut_keys(tf.concat([value, *[ones] * (len(columns) - 1)], -1))
            size = value.shape[-1]

            def block(at: Any) -> tuple[Any, Any, Any]:
                """Of one block, the gradients of query, key and value, the last two turned around.

                So their products have rows as long as the scores': of a head's few columns, they
                would take up to twice as long.
                """
                head = at // blocks.turns
                known = None
                if kept:
                    # float16 is too narrow for what is hidden.
                    wide_type = tf.float32 if query.dtype == tf.float16 else query.dtype
                    known = arrays[1].read(at), blocks.hidden(at, wide_type)[1], None
                share, slope_of, of_scores, slope = slopes(
                    queries[at], keys[head], wide[head], slopes_of[at], at, bias, known
                )
                of_scores = of_scores if slope is None else of_scores * slope
                return (
                    tf.matmul(of_scores, keys[head]),
                    tf.matmul(queries[at], of_scores, transpose_a=True),
                    tf.matmul(slope_of[..., :size], share, transpose_a=True),
                )

            of_query, of_key, of_value = blocks.gradients(block, keys, values)
            grads = (
                blocks.join(of_query, query.shape[-1]),
                blocks.join_keys(tf.linalg.matrix_transpose(of_key), key.shape[-1]),
                blocks.join_keys(tf.linalg.matrix_transpose(of_value), size),
            )
            if bias is None:
                return grads

            def of_bias(at: Any) -> Any:
                head = at // blocks.turns
                sides = queries[at], keys[head], wide[head], slopes_of[at]
                return slopes(*sides, at, bias)[2]

            # A loop of its own: in a graph, a bias that learns nothing costs nothing.
            return (*grads, blocks.sum_rows(of_bias, bias))

        return context, gradient

    return own_gradient(attend, *sides, *extra)


def _segments(tf: Any, rows: Any, columns: Any, causal: bool, window: int | None) -> list:
    """Ranges of queries, each with that of the keys that its queries may see."""
    count = SEGMENTS
    if isinstance(rows, int):
        count = max(1, min(count, rows // SHORTEST_SEGMENT))
    length = parts(rows, count)
    segments = []
    for number in range(count):
        start, stop = (smaller(tf, (number + n) * length, rows) for n in (0, 1))
        low, high = 0, columns
        if window is not None:
            low = smaller(tf, larger(tf, start - window + 1, 0), columns)
            high = smaller(tf, stop - 1 + window, columns)
        if causal:
            high = smaller(tf, stop, columns)
        segments.append((start, stop, low, larger(tf, low, high)))
    return segments


def _sum_columns(tf: Any, upstream: Any, context: Any) -> list:
    """`-sum(upstream * context)` of each row, in two numbers where one is too coarse for it."""
    wide = upstream.dtype if upstream.dtype == tf.float64 else tf.float32
    products = tf.cast(upstream, wide) * tf.cast(context, wide)
    total = -tf.reduce_sum(products, -1, keepdims=True)
    first = tf.cast(total, upstream.dtype)
    if upstream.dtype == wide:
        return [first]
    return [first, tf.cast(total - tf.cast(first, wide), upstream.dtype)]


def _heads_first(tf: Any, x: Any) -> Any:
    """`[B, T, H, K]` as `[BH, T, K]`."""
    batch, rows, heads, size = sizes(tf, x)
    return tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (batch * heads, rows, size))


def _wide(tf: Any, x: Any, columns: Any) -> Any:
    """With four axes, the last of them as long as the scores', or one for certain."""
    x = tf.convert_to_tensor(x)
    while len(x.shape) < 4:
        x = x[None]
    if x.shape[3] == 1 or (isinstance(columns, int) and x.shape[3] == columns):
        return x
    return tf.broadcast_to(x, tf.concat([tf.shape(x)[:3], [columns]], 0))
