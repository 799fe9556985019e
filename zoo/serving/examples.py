"""`Classify` and `Regress`: signatures that take `tf.Example` records, in both protocols."""

import base64
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from zoo.serving.failure import Failure, invalid, quoted
from zoo.serving.predict import Answer, Predictor, Target
from zoo.serving.signatures import CLASSIFY, REGRESS, Signature

# What TensorFlow Serving calls the tensors of such signatures.
_INPUT, _CLASSES, _SCORES, _VALUES = "inputs", "classes", "scores", "outputs"
_KEYS = ("signature_name", "context", "examples")


def classify(
    predictor: Predictor, target: Target, records: list[bytes], go_on: Callable[[], None]
) -> tuple[Answer, list[list[tuple[str, float]]]]:
    """Asks a signature for `Classify`.

    Args:
        predictor: what answers.
        target: what is asked.
        records: serialised examples.
        go_on: as for `Predictor.predict`.

    Returns:
        The answer, and for each record its classes with their scores.

    Raises:
        Failure: as `Predictor.predict`, and if the signature is for something else.
    """
    answer = predictor.predict(target, _reader(records), (), CLASSIFY, go_on)
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
    predictor: Predictor, target: Target, records: list[bytes], go_on: Callable[[], None]
) -> tuple[Answer, list[float]]:
    """Asks a signature for `Regress`: as `classify`, with one number for each record."""
    answer = predictor.predict(target, _reader(records), (), REGRESS, go_on)
    values = answer.outputs.get(_VALUES)
    if values is None or values.size != len(records):
        raise _unusable(answer, "outputs: float32[B]")
    return answer, values.ravel().tolist()


def records_of_json(request: dict[str, Any]) -> list[bytes]:
    """The examples of a request's JSON, serialised.

    Args:
        request: with `examples`, each an object of features, and `context`, features of all.

    Raises:
        Failure: if it is no such request.

    Example:
        >>> (record,) = records_of_json({"context": {"a": 1}, "examples": [{"text": "dull"}]})
        >>> sorted(tf.train.Example.FromString(record).features.feature)
        ['a', 'text']
    """
    unknown = sorted(request.keys() - set(_KEYS))
    if unknown:
        raise invalid(f"unknown key {quoted(unknown[0])}. Known: {', '.join(_KEYS)}")
    rows, context = request.get("examples"), request.get("context", {})
    if not isinstance(rows, list) or not isinstance(context, dict):
        raise invalid("'examples' must be a list, and 'context' an object")
    records = []
    for row in rows:
        if not isinstance(row, dict):
            raise invalid("each of 'examples' must be an object of features")
        both = sorted(row.keys() & context.keys())
        if both:
            raise invalid(f"feature {quoted(both[0])} stands in 'context' and in an example")
        features = {key: _feature(key, value) for key, value in (context | row).items()}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        records.append(example.SerializeToString())
    return _some(records)


def records_of_proto(given: Any) -> list[bytes]:
    """The examples of a request's `Input`, serialised.

    Raises:
        Failure: if it holds none.
    """
    if given.WhichOneof("kind") != "example_list_with_context":
        return _some([example.SerializeToString() for example in given.example_list.examples])
    listed, records = given.example_list_with_context, []
    for example in listed.examples:
        merged = tf.train.Example()
        merged.CopyFrom(listed.context)
        merged.MergeFrom(example)
        records.append(merged.SerializeToString())
    return _some(records)


def _some(records: list[bytes]) -> list[bytes]:
    if not records:
        raise invalid("the request holds no example")
    return records


def _reader(records: Iterable[bytes]) -> Callable[[Signature], dict[str, np.ndarray]]:
    return lambda signature: {_INPUT: np.array([*records, None], object)[:-1]}


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
