"""JSON to arrays and back, as TensorFlow Serving's REST API has it.

Rows (`instances` in, `predictions` out) or columns (`inputs` in, `outputs` out); strings that are
no text as `{"b64": ...}`; NaN and Infinity bare.
Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import binascii
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np

from zoo.serving.failure import invalid, quoted
from zoo.serving.limits import Limits, TooMany, check_answer
from zoo.serving.signatures import Signature, Spec

# The most axes that NumPy has.
_MOST_AXES = 64
_KEYS = ("signature_name", "instances", "inputs")
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def parsed(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds.

    Raises:
        Failure: if it is no JSON, or no object.

    Example:
        >>> parsed(b'{"instances": [NaN]}')
        {'instances': [nan]}
    """
    try:
        request = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8: byte {error.start}") from error
    except RecursionError as error:
        raise invalid("the body is nested too deep") from error
    except ValueError as error:
        raise invalid(f"the body is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise invalid(f"the body must be a JSON object, not {_kind(request)}")
    return request


def signature_name(request: dict[str, Any]) -> str:
    """The signature that a request asks for; empty for the default.

    Raises:
        Failure: if it is no string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"'signature_name' must be a string, not {_kind(name)}")
    return name


def arrays_of(
    request: dict[str, Any], signature: Signature, max_elements: int
) -> dict[str, np.ndarray]:
    """The arrays in a request to predict.

    Args:
        request: as `parsed` returns it.
        signature: what they are for.
        max_elements: how many elements an array may have, those that fill uneven rows included.

    Returns:
        An array for each input that the request names.

    Raises:
        Failure: if it is no such request.
    """
    unknown = sorted(request.keys() - set(_KEYS))
    if unknown:
        raise invalid(f"unknown key {quoted(unknown[0])}. Known: {', '.join(_KEYS)}")
    if ("instances" in request) == ("inputs" in request):
        raise invalid("the body must hold either 'instances' or 'inputs'")
    if "inputs" in request:
        columns = _columns(request["inputs"], signature)
    else:
        columns = _columns_of_rows(request["instances"], signature)
    return {
        key: array_of(key, value, signature.inputs[key], max_elements)
        if key in signature.inputs
        # `Signature.check` says what is wrong with the names, all of them at once.
        else np.empty(0)
        for key, value in columns.items()
    }


def _columns(value: Any, signature: Signature) -> dict[str, Any]:
    if isinstance(value, dict) and not _is_b64(value, signature):
        return value
    return {_only(signature): value}


def _columns_of_rows(rows: Any, signature: Signature) -> dict[str, Any]:
    if not isinstance(rows, list):
        raise invalid(f"'instances' must be a list, not {_kind(rows)}")
    named = [isinstance(row, dict) and not _is_b64(row, signature) for row in rows]
    if not any(named):
        return {_only(signature): rows} if rows else {key: [] for key in signature.inputs}
    if not all(named):
        raise invalid(f"instance {named.index(False)} has no names, where others have")
    for place, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            wrong = min(row.keys() ^ rows[0].keys())
            raise invalid(f"instances 0 and {place} differ: only one has {quoted(wrong)}")
    return {key: [row[key] for row in rows] for key in rows[0]}


def _is_b64(value: Any, signature: Signature) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and "b64" not in signature.inputs


def _only(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        names = ", ".join(map(quoted, signature.inputs))
        raise invalid(f"the signature has {len(signature.inputs)} inputs, so name them: {names}")
    return next(iter(signature.inputs))


def array_of(key: str, value: Any, spec: Spec, max_elements: int) -> np.ndarray:
    """The array that nested lists stand for; rows of uneven length are filled up at their end.

    Args:
        key: the input's name.
        value: numbers, strings, or lists of them.
        spec: what the input takes. Lists may be uneven where it takes any size; zeros, `False` or
            empty strings follow their last element.
        max_elements: how many elements it may have in all.

    Raises:
        Failure: if they stand for no such array.

    Example:
        >>> import tensorflow as tf
        >>> array_of("ids", [[7, 8, 9], [5]], Spec(tf.int32, (None, None), "x:0"), 100).tolist()
        [[7, 8, 9], [5, 0, 0]]
    """
    level, sizes = [value], []
    rank = _depth(value) if spec.shape is None else len(spec.shape)
    if rank > _MOST_AXES:
        raise invalid(f"input {quoted(key)} is nested more than {_MOST_AXES} deep")
    accepted, filler = _accepted(key, spec)
    for axis in range(rank):
        wrong = next((item for item in level if type(item) is not list), None)
        if set(map(type, level)) - {list}:
            raise invalid(f"input {quoted(key)} takes {spec}: {_kind(wrong)} is not a list")
        want = None if spec.shape is None else spec.shape[axis]
        size = max(map(len, level), default=want or 0)
        if len(level) * size > max_elements:
            message = f"input {quoted(key)} would have more than {max_elements} elements"
            raise TooMany(grpc.StatusCode.INVALID_ARGUMENT, message)
        if any(len(item) != size for item in level):
            if want is not None:
                raise invalid(f"input {quoted(key)} takes {spec}: a list has another length")
            fill = _filled(
                filler, spec.shape[axis + 1 :] if spec.shape else [None] * (rank - axis - 1)
            )
            level = [item + [fill] * (size - len(item)) for item in level]
        sizes.append(size)
        level = list(itertools.chain.from_iterable(level))
    return _leaves(key, level, spec, accepted).reshape(sizes)


def _accepted(key: str, spec: Spec) -> tuple[set[type], Any]:
    """The types of JSON's values that an input takes, and what fills an uneven row of them."""
    if spec.is_text:
        return {str, dict, bytes}, b""
    if spec.dtype.is_bool:
        return {bool}, False
    if spec.dtype.is_floating:
        return {int, float}, 0
    if spec.dtype.is_integer and not spec.dtype.is_quantized:
        return {int}, 0
    raise invalid(f"input {quoted(key)}: {spec.dtype.name} cannot be given as JSON")


def _filled(filler: Any, sizes: Sequence[int | None]) -> Any:
    """What stands for an element that is missing; where any size will do, an empty list."""
    return [_filled(filler, sizes[1:])] * (sizes[0] or 0) if sizes else filler


def _leaves(key: str, values: list[Any], spec: Spec, accepted: set[type]) -> np.ndarray:
    # JSON's true is a bool, which Python would take for the number 1.
    wrong = next((value for value in values if type(value) not in accepted), None)
    if set(map(type, values)) - accepted:
        raise invalid(f"input {quoted(key)} takes {spec}, not {_kind(wrong)}")
    if spec.is_text:
        texts = np.empty(len(values), object)
        texts[:] = [_bytes_of(key, value) for value in values]
        return texts
    try:
        with np.errstate(over="raise"):
            return np.array(values, spec.array_dtype)
    except (OverflowError, FloatingPointError) as error:
        raise invalid(f"input {quoted(key)}: a number is too large for {spec}") from error


def _bytes_of(key: str, value: str | bytes | dict[str, Any]) -> bytes:
    if isinstance(value, bytes):  # what fills an uneven row
        return value
    if isinstance(value, str):
        # JSON may hold half of a surrogate pair, which is no character.
        return value.encode("utf-8", "surrogatepass")
    encoded = value.get("b64")
    if value.keys() != {"b64"} or not isinstance(encoded, str):
        raise invalid(
            f"input {quoted(key)}: an object must hold base64, as 'b64', and nothing else"
        )
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"input {quoted(key)}: {quoted(encoded[:40])} is no base64") from error


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def answered(
    outputs: dict[str, np.ndarray], rows: bool, max_elements: int = Limits().elements
) -> bytes:
    """The body of an answer to predict.

    Args:
        outputs: an array for each output.
        rows: whether the request came in rows.
        max_elements: how many elements the outputs may have together: each becomes an object of
            Python's and some twenty characters.

    Raises:
        Failure: if it came in rows and the outputs have other ones, or if they are too large.

    Example:
        >>> answered({"label": np.array([b"good"], object), "p": np.array([0.1], "f4")}, rows=True)
        b'{"predictions":[{"label":"good","p":0.1}]}'
    """
    check_answer(outputs.values(), max_elements)
    counts = {array.shape[:1] for array in outputs.values()}
    if rows and (len(counts) > 1 or () in counts):
        raise invalid("the outputs are no rows: ask for columns, with 'inputs'")
    columns = {key: _plain(key, array) for key, array in outputs.items()}
    whole: Any = next(iter(columns.values())) if len(columns) == 1 else columns
    if rows and len(columns) > 1:
        whole = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    return dumped({"predictions" if rows else "outputs": whole})


def dumped(value: Any) -> bytes:
    """JSON as this server writes it: NaN and Infinity bare, as TensorFlow Serving does."""
    return _ENCODER.encode(value).encode()


def _plain(key: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        texts = list(_texts(array.ravel().tolist(), key.endswith("_bytes")))
        return _nested(texts, array.shape)
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        # The shortest number that is this one in its own precision: 0.1, not 0.10000000149011612.
        # One by one: an array of such texts takes 128 bytes for each.
        return _nested([float(str(number)) for number in array.ravel()], array.shape)
    return array.tolist()


def _texts(values: list[bytes], as_bytes: bool) -> Iterator[Any]:
    for value in values:
        try:
            text = None if as_bytes else value.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        yield {"b64": base64.b64encode(value).decode()} if text is None else text


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        count = math.prod(shape[:axis])
        flat = [flat[i * size : (i + 1) * size] for i in range(count)]
    return flat
