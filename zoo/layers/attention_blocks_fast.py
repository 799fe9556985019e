"""How the scores of attention are cut into blocks that stay in a core's cache, under TensorFlow."""

import math
from collections.abc import Callable
from typing import Any

# So many scores, 1 MB in float32, stay in a core's cache from one operation to the next.
BLOCK = 2**18
# Fewer rows make poor matrix products, however long they are.
FEWEST_ROWS = 64
# Weights of so many bytes are kept for the gradient: reading them is cheaper than the product.
KEPT = 2**27
# Blocks in work at once; each may have a thread of its own.
CONCURRENT = 2
# Added to the scores that are not to be seen. Finite, so that a row of them is no row of NaN.
HIDDEN = -1e30


class Blocks:
    """How the scores `[BH, T, S]` are cut: in groups of heads, and heads in blocks of rows."""

    def __init__(
        self,
        batch: Any,
        heads: Any,
        start: Any,
        stop: Any,
        low: Any,
        high: Any,
        *,
        mask: Any,
        causal: bool,
        window: int | None,
    ) -> None:
        import tensorflow as tf

        self.tf, self.batch, self.heads, self.mask = tf, batch, heads, mask
        self.start, self.low, self.high = start, low, high
        self.causal, self.window = causal, window
        self.total, self.length, self.width = batch * heads, stop - start, high - low
        width, length = larger(tf, self.width, 1), larger(tf, self.length, 1)
        total = larger(tf, self.total, 1)
        most = larger(tf, BLOCK // width, FEWEST_ROWS)
        self.turns = parts(length, most)  # of one head
        self.size = parts(length, self.turns)  # rows of a block
        at_once = smaller(tf, larger(tf, BLOCK // (self.size * width), 1), total)
        # Heads go together only where each is one block.
        at_once = 1 if isinstance(self.turns, int) and self.turns > 1 else at_once
        self.groups = parts(total, at_once)
        self.together = parts(total, self.groups)  # heads of a block
        self.single = isinstance(self.together, int) and self.together == 1

    def cut(self, x: Any) -> Any:
        """`[BH, T, K]` as `[blocks, heads, rows, K]`, without the heads if there is one of them."""
        x = self._pad(x, self.groups * self.together, self.turns * self.size)
        inner = (self.size,) if self.single else (self.together, self.size)
        return self.tf.reshape(x, (self.groups * self.turns, *inner, x.shape[-1]))

    def cut_keys(self, x: Any) -> Any:
        """`[BH, S, K]` as `[groups, heads, S, K]`, without the heads if there is one of them."""
        x = self._pad(x, self.groups * self.together, self.width)
        inner = (self.width,) if self.single else (self.together, self.width)
        return self.tf.reshape(x, (self.groups, *inner, x.shape[-1]))

    def join(self, x: Any, size: int) -> Any:
        """The inverse of `cut`."""
        shape = (self.groups * self.together, self.turns * self.size, size)
        return self.tf.reshape(x, shape)[: self.total, : self.length]

    def join_keys(self, x: Any, size: int) -> Any:
        """The inverse of `cut_keys`."""
        shape = (self.groups * self.together, self.width, size)
        return self.tf.reshape(x, shape)[: self.total]

    def _pad(self, x: Any, total: Any, length: Any) -> Any:
        missing = (total - self.total, length - sizes(self.tf, x)[1])
        if all(isinstance(number, int) and number == 0 for number in missing):
            return x
        return self.tf.pad(x, [[0, missing[0]], [0, missing[1]], [0, 0]])

    def each(self, turn: Callable, dtypes: list, count: Any = None) -> list:
        """What `turn(at)` gives for each block, stacked."""
        return [array.stack() for array in self.fill(turn, dtypes, count)]

    def fill(self, turn: Callable, dtypes: list, count: Any = None) -> list:
        """Arrays of what `turn(at)` gives for each block."""
        tf, count = self.tf, self.groups * self.turns if count is None else count
        arrays = [tf.TensorArray(dtype, count, clear_after_read=False) for dtype in dtypes]

        def body(at: Any, *arrays: Any) -> tuple:
            made = tf.nest.flatten(turn(at))
            return at + 1, *(a.write(at, x) for a, x in zip(arrays, made, strict=True))

        loop = tf.while_loop(
            lambda at, *_: at < count, body, (0, *arrays), parallel_iterations=CONCURRENT
        )
        return list(loop[1:])

    def keeps(self, dtype: Any) -> bool:
        """Whether the weights stay for the gradient: few enough, and likely to be needed."""
        from tensorflow.python.eager import record

        numbers = (self.total, self.length, self.width)
        if not all(isinstance(number, int) for number in numbers):
            return False
        # Causal and windowed attention comes here a few times.
        most = KEPT // 4 if self.causal or self.window is not None else KEPT
        # There is no public way to ask whether a tape is open.
        return math.prod(numbers) * dtype.size <= most and record.could_possibly_record()

    def gradients(self, block: Callable, keys: Any, values: Any) -> list:
        """The gradients of all blocks of queries, and of keys and values, summed over them.

        Args:
            block: of a block, the gradients of its queries `[rows, K]`, of the keys `[K, S]` and
                of the values `[V, S]`, with heads before them if there are several.
            keys: those of `cut_keys`.
            values: those of `cut_keys`.

        Returns:
            The three, `[blocks, rows, K]`, `[groups, K, S]` and `[groups, V, S]`.
        """
        tf = self.tf
        dtypes = [keys.dtype] * 3
        if isinstance(self.turns, int) and self.turns == 1:
            return self.each(block, dtypes)
        wide = tf.float64 if keys.dtype == tf.float64 else tf.float32

        def head(number: Any) -> tuple:
            array = tf.TensorArray(keys.dtype, self.turns)
            sums = tuple(
                tf.zeros_like(tf.linalg.matrix_transpose(x[0]), wide) for x in (keys, values)
            )

            def body(turn: Any, array: Any, *sums: Any) -> tuple:
                of_query, *more = block(number * self.turns + turn)
                sums = tuple(s + tf.cast(x, wide) for s, x in zip(sums, more, strict=True))
                return turn + 1, array.write(turn, of_query), *sums

            values_in = (0, array, *sums)
            _, array, *sums = tf.while_loop(lambda t, *_: t < self.turns, body, values_in)
            return array.stack(), *(tf.cast(s, keys.dtype) for s in sums)

        return self.each(head, dtypes, self.groups)

    def sum_rows(self, block: Callable, x: Any) -> Any:
        """What `block(at)` gives for scores, summed to the shape of the bias `x`."""
        tf = self.tf
        shape = tf.shape(x)
        wide = tf.float64 if x.dtype == tf.float64 else tf.float32
        zeros = tf.zeros((tf.reduce_prod(shape[:3]), shape[3]), wide)

        def body(at: Any, sums: Any) -> tuple:
            made = tf.cast(block(at), wide)
            made = made[None] if self.single else made  # [heads, rows, S]
            if x.shape[2] == 1:
                made = tf.reduce_sum(made, 1, keepdims=True)
            if x.shape[3] == 1:
                made = tf.reduce_sum(made, 2, keepdims=True)
            return at + 1, tf.tensor_scatter_nd_add(sums, self._places(x, at)[..., None], made)

        count = self.groups * self.turns
        _, sums = tf.while_loop(lambda at, _: at < count, body, (0, zeros))
        return tf.cast(tf.reshape(sums, shape), x.dtype)

    def rows(self, x: Any, at: Any) -> Any:
        """A block of what broadcasts to `[B, H, T, S]`; its rows are one if those of `x` are."""
        tf = self.tf
        batch, heads, length, width = sizes(tf, x)
        flat = tf.reshape(x, (batch * heads * length, width))  # -1 of no row is no number
        places = self._places(x, at)
        if not x.shape.is_fully_defined():
            # There may be no row at all, and the loop still takes one turn.
            flat, places = tf.pad(flat, ((0, 1), (0, 0))), tf.maximum(places, 0)
        made = tf.gather(flat, places)  # [heads, rows, S]
        made = made if x.shape[3] == 1 else made[:, :, self.low : self.high]
        return made[0] if self.single else made

    def _places(self, x: Any, at: Any) -> Any:
        """Where a block's rows are in `x`, three axes taken as one; `int[heads, rows]`."""
        tf = self.tf
        batch, heads, length, _ = sizes(tf, x)
        first = at // self.turns * self.together
        head = tf.minimum(tf.range(self.together) + first, self.total - 1)
        place = tf.minimum(head // self.heads, batch - 1) * heads
        place = (place + tf.minimum(head % self.heads, heads - 1)) * length
        row = self._row(at) + self.start if x.shape[2] != 1 else tf.zeros((1,), tf.int32)
        return place[:, None] + tf.minimum(row, length - 1)

    def _row(self, at: Any) -> Any:
        return at % self.turns * self.size + self.tf.range(self.size)

    def hidden(self, at: Any, dtype: Any) -> tuple[Any, Any]:
        """What to add to a block's scores, and 1 for rows that see anything, 0 for others."""
        tf, hidden = self.tf, None
        if self.mask is not None:
            hidden = (1.0 - tf.cast(self.rows(self.mask, at), dtype)) * tf.cast(HIDDEN, dtype)
        if self.causal or self.window is not None:
            row = self._row(at) + (self.start - self.low)
            distance = row[:, None] - tf.range(self.width)
            seen = distance >= 0 if self.causal else tf.abs(distance) < self.window
            if self.causal and self.window is not None:
                seen &= distance < self.window
            order = (1.0 - tf.cast(seen, dtype)) * tf.cast(HIDDEN, dtype)
            order = order if self.single else order[None]
            hidden = order if hidden is None else hidden + order
        if hidden is None or (self.mask is None and self.window is None):
            return hidden, None
        return hidden, tf.reduce_max(hidden, -1, keepdims=True) > tf.cast(HIDDEN / 2, dtype)


def sizes(tf: Any, x: Any) -> list:
    """The sizes of `x`: numbers where they are known, else tensors."""
    shape = x.shape.as_list()
    unknown: Any = tf.shape(x) if None in shape else None
    return [unknown[axis] if size is None else size for axis, size in enumerate(shape)]


def larger(tf: Any, a: Any, b: Any) -> Any:
    """The larger of two sizes, each a number or a tensor."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


def smaller(tf: Any, a: Any, b: Any) -> Any:
    """The smaller of two sizes, each a number or a tensor."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)


def parts(total: Any, most: Any) -> Any:
    """How many parts of at most this size make up the total."""
    return (total + most - 1) // most
