"""`Classify` and `Regress`: signatures that take `tf.Example` records, in both protocols."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from zoo.serving.failure import Failure, invalid, quoted
from zoo.serving.limits import Limits
from zoo.serving.predict import Answer, Predictor, Target
from zoo.serving.signatures import CLASSIFY, REGRESS, Signature

# What TensorFlow Serving calls the tensors of such signatures.
_INPUT, _CLASSES, _SCORES, _VALUES = "inputs", "classes", "scores", "outputs"
_KEYS = ("signature_name", "context", "examples")


@dataclass(frozen=True)
class Records:
    """A request's examples, not yet merged with their context: each would have a copy of it.

    Args:
        rows: the examples, as the protocol has them.
        context: what they share, serialised.
        merged: the record of one of them, with the context.

    Raises:
        Failure: if there is no example.
    """

    rows: Sequence[Any]
    context: bytes
    merged: Callable[[Any], bytes]

    def __post_init__(self) -> None:
        if not self.rows:
            raise invalid("the request holds no example")

    def unfolded(self, most_rows: int, most_bytes: int) -> Iterator[bytes]:
        """The examples, serialised.

        Args:
            most_rows: how many there may be.
            most_bytes: what the copies of the context may come to.

        Raises:
            Failure: if it is more, before the first is made.
        """
        count = len(self.rows)
        if count > most_rows:
            raise invalid(f"a request may have {most_rows} rows, not {count}")
        if count * len(self.context) > most_bytes:
            raise invalid(f"'context' in each example would come to more than {most_bytes} bytes")
        return map(self.merged, self.rows)


def classify(
    predictor: Predictor,
    target: Target,
    records: Records,
    go_on: Callable[[], None],
    most_bytes: int = Limits().unfolded_bytes,
) -> tuple[Answer, list[list[tuple[str, float]]]]:
    """Asks a signature for `Classify`.

    Args:
        predictor: what answers.
        target: what is asked.
        records: the examples.
        go_on: as for `Predictor.predict`.
        most_bytes: what copies of their context may come to.

    Returns:
        The answer, and for each record its classes with their scores.

    Raises:
        Failure: as `Predictor.predict`, and if the signature is for something else.
    """
    read = _reader(records, predictor.queue.limit, most_bytes)
    answer = predictor.predict(target, read, (), CLASSIFY, go_on)
    classes, scores = answer.outputs.get(_CLASSES), answer.outputs.get(_SCORES)
    given = [array for array in (classes, scores) if array is not None]
    if not given or any(a.ndim != 2 or a.shape != given[0].shape for a in given):
        raise _unusable(answer, "classes: string[B, C] and scores: float32[B, C]")
    names = np.full(given[0].shape, b"", object) if classes is None else classes
    numbers = np.zeros(given[0].shape) if scores is None else scores
    return answer, [
        [
            (name.decode("utf-8", "replace"), float(number))
            for name, number in zip(*row, strict=True)
        ]
        for row in zip(names, numbers, strict=True)
    ]


def regress(
    predictor: Predictor,
    target: Target,
    records: Records,
    go_on: Callable[[], None],
    most_bytes: int = Limits().unfolded_bytes,
) -> tuple[Answer, list[float]]:
    """Asks a signature for `Regress`: as `classify`, with one number for each record."""
    read = _reader(records, predictor.queue.limit, most_bytes)
    answer = predictor.predict(target, read, (), REGRESS, go_on)
    values = answer.outputs.get(_VALUES)
    if values is None or values.size != len(records.rows):
        raise _unusable(answer, "outputs: float32[B]")
    return answer, values.ravel().tolist()


def records_of_json(request: dict[str, Any]) -> Records:
    """The examples of a request's JSON.

    Args:
        request: with `examples`, each an object of features, and `context`, features of all.

    Raises:
        Failure: if it is no such request.

    Example:
        >>> records = records_of_json({"context": {"a": 1}, "examples": [{"text": "dull"}]})
        >>> (record,) = records.unfolded(most_rows=1, most_bytes=100)
        >>> sorted(tf.train.Example.FromString(record).features.feature)
        ['a', 'text']
    """
    unknown = sorted(request.keys() - set(_KEYS))
    if unknown:
        raise invalid(f"unknown key {quoted(unknown[0])}. Known: {', '.join(_KEYS)}")
    rows, context = request.get("examples"), request.get("context", {})
    if not isinstance(rows, list) or not isinstance(context, dict):
        raise invalid("'examples' must be a list, and 'context' an object")
    shared = _features(context)

    def merged(row: Any) -> bytes:
        if not isinstance(row, dict):
            raise invalid("each of 'examples' must be an object of features")
        both = sorted(row.keys() & context.keys())
        if both:
            raise invalid(f"feature {quoted(both[0])} stands in 'context' and in an example")
        example = tf.train.Example(features=shared)
        example.features.MergeFrom(_features(row))
        return example.SerializeToString()

    return Records(rows, shared.SerializeToString(), merged)


def records_of_proto(given: Any) -> Records:
    """The examples of a request's `Input`.

    Raises:
        Failure: if it holds none.
    """
    if given.WhichOneof("kind") != "example_list_with_context":
        return Records(given.example_list.examples, b"", lambda row: row.SerializeToString())
    listed = given.example_list_with_context

    def merged(row: Any) -> bytes:
        example = tf.train.Example()
        example.CopyFrom(listed.context)
        example.MergeFrom(row)
        return example.SerializeToString()

    return Records(listed.examples, listed.context.SerializeToString(), merged)


def _reader(
    records: Records, most_rows: int, most_bytes: int
) -> Callable[[Signature], dict[str, np.ndarray]]:
    def read(signature: Signature) -> dict[str, np.ndarray]:
        # Not before a signature for examples has been found.
        return {_INPUT: np.array([*records.unfolded(most_rows, most_bytes), None], object)[:-1]}

    return read


def _features(values: dict[str, Any]) -> Any:
    return tf.train.Features(feature={key: _feature(key, item) for key, item in values.items()})


def _feature(key: str, value: Any) -> tf.train.Feature:
    values = value if isinstance(value, list) else [value]
    types = set(map(type, values))
    try:
        if types <= {int}:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        if types <= {int, float}:
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        if types <= {str, dict}:
            texts = [_text(item) for item in values]
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid(f"feature {quoted(key)} holds what no feature can") from error
    raise invalid(f"feature {quoted(key)} must hold numbers or strings, all of one kind")


def _text(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if value.keys() != {"b64"}:
        raise ValueError("no base64 object")
    return base64.b64decode(value["b64"], validate=True)


def _unusable(answer: Answer, wanted: str) -> Failure:
    message = f"signature {answer.signature.name!r} does not return {wanted}"
    return Failure(grpc.StatusCode.FAILED_PRECONDITION, message)
