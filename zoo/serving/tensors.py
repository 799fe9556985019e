"""Arrays to TensorFlow's `TensorProto` and back, for what comes from strangers."""

import math
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from zoo.serving.failure import invalid, quoted
from zoo.serving.limits import TooMany
from zoo.serving.signatures import Spec, check_one

# Where a TensorProto keeps its values if it keeps them one by one.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def array_of(key: str, proto: Any, spec: Spec, max_elements: int) -> np.ndarray:
    """The array that a caller sent.

    Args:
        key: the input's name.
        proto: its TensorProto.
        spec: what the input takes.
        max_elements: a TensorProto of a few bytes may stand for any number of equal values; this
            is how many are taken, and how many bytes of strings.

    Returns:
        The array; `object` of bytes for strings.

    Raises:
        Failure: if it is no tensor, or another one than the input takes.
    """
    shape = proto.tensor_shape
    sizes = tuple(dim.size for dim in shape.dim)
    if shape.unknown_rank or any(size < 0 for size in sizes):
        raise invalid(f"input {quoted(key)} has no definite shape")
    # TensorFlow takes its time to name a type.
    if proto.dtype != spec.number or not spec.fits(sizes):
        try:
            dtype = tf.as_dtype(proto.dtype)
        except TypeError as error:
            raise invalid(f"input {quoted(key)} has an unknown dtype {proto.dtype}") from error
        check_one(key, spec, dtype, sizes)
    # Beside a size of 0 any other would pass for none at all, and a model may count up to it.
    if max(math.prod(sizes), *sizes, 0) > max_elements:
        raise _too_many(f"input {quoted(key)} has more than {max_elements} elements")
    if spec.is_text and _text_bytes(proto, math.prod(sizes)) > max_elements:
        raise _too_many(f"input {quoted(key)} unfolds to more than {max_elements} bytes")
    if spec.is_text and len(proto.string_val) == math.prod(sizes):
        return np.array([*proto.string_val, None], object)[:-1].reshape(sizes)
    try:
        array = tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise invalid(f"input {quoted(key)}: its values do not fill its shape") from error
    return np.asarray(array, spec.array_dtype)


def _too_many(message: str) -> TooMany:
    return TooMany(grpc.StatusCode.INVALID_ARGUMENT, message)


def _text_bytes(proto: Any, count: int) -> int:
    """Bytes of a tensor's strings once its last one stands in all the places left over."""
    values = proto.string_val
    if not values:
        return 0
    return sum(map(len, values)) + max(0, count - len(values)) * len(values[-1])


def proto_of(array: np.ndarray) -> Any:
    """The TensorProto of a result, its values one by one.

    TensorFlow Serving sends them so unless told otherwise, and clients written for it read
    `float_val`; `tf.make_tensor_proto` would pack them into `tensor_content`.

    Args:
        array: of any type that a SavedModel returns; `object` holds bytes.

    Example:
        >>> list(proto_of(np.array([[0.5, 0.25]], np.float32)).float_val)
        [0.5, 0.25]
    """
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    field = _FIELDS.get(dtype)
    if field is None:
        return tf.make_tensor_proto(array)
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

    sizes = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    proto = tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=sizes)
    )
    getattr(proto, field).extend(array.ravel().tolist())
    return proto
