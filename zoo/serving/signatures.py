"""What a SavedModel can be asked: its signatures as typed records, and the check against them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from zoo.serving.failure import Failure, invalid, quoted

DEFAULT = "serving_default"
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


@dataclass(frozen=True)
class Spec:
    """One tensor of a signature.

    Args:
        dtype: its type.
        shape: its sizes, `None` for any; `None` alone if the rank is unknown.
        tensor: its name in the graph.
    """

    dtype: tf.DType
    shape: tuple[int | None, ...] | None
    tensor: str

    @functools.cached_property
    def number(self) -> int:
        """Its type's in TensorFlow's protocol buffers."""
        return self.dtype.as_datatype_enum

    @functools.cached_property
    def is_text(self) -> bool:
        """Whether it holds strings."""
        return self.dtype == tf.string

    @functools.cached_property
    def array_dtype(self) -> Any:
        """The NumPy type that feeds it: `object` for strings, which are `bytes`."""
        return object if self.is_text else self.dtype.as_numpy_dtype

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it takes arrays of that shape."""
        return self.shape is None or (
            len(self.shape) == len(shape)
            and all(want in (None, size) for want, size in zip(self.shape, shape, strict=True))
        )

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype.name}[...]"
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype.name}[{sizes}]"


@dataclass(frozen=True)
class Signature:
    """What one signature takes and returns.

    Args:
        name: its key in the SavedModel.
        method: what it is for, as TensorFlow Serving names it.
        inputs: the tensors it takes, by key.
        outputs: the tensors it returns, by key.
    """

    name: str
    method: str
    inputs: dict[str, Spec]
    outputs: dict[str, Spec]

    def check(self, given: Mapping[str, np.ndarray]) -> int:
        """Refuses what cannot be run, before it shares a batch with what can.

        Args:
            given: an array for each input.

        Returns:
            The rows: the size of the first axis, or 1 where an input has none.

        Raises:
            Failure: naming the first input that is missing, unknown, or of another type or shape.
        """
        missing = sorted(self.inputs.keys() - given.keys())
        unknown = sorted(given.keys() - self.inputs.keys())
        if missing or unknown:
            wrong = [f"missing: {', '.join(map(quoted, missing[:10]))}"] if missing else []
            wrong += [f"unknown: {', '.join(map(quoted, unknown[:10]))}"] if unknown else []
            takes = ", ".join(f"{key}: {spec}" for key, spec in sorted(self.inputs.items()))
            raise invalid(f"inputs {'; '.join(wrong)}. The signature takes {takes or 'none'}")
        for key, spec in self.inputs.items():
            array = given[key]
            # TensorFlow takes its time to name a type.
            if array.dtype != spec.array_dtype or not spec.fits(array.shape):
                check_one(key, spec, tf.as_dtype(array.dtype), array.shape)
        rows = {a.shape[0] if a.shape else 1 for a in given.values()}
        if len(rows) > 1 and all(
            spec.shape is not None and spec.shape and spec.shape[0] is None
            for spec in self.inputs.values()
        ):
            sizes = ", ".join(f"{key} {a.shape[0]}" for key, a in sorted(given.items()))
            raise invalid(f"inputs differ in their number of rows: {sizes}")
        return max(rows, default=1)


def check_one(key: str, spec: Spec, dtype: tf.DType, shape: tuple[int, ...]) -> None:
    """Refuses an array that an input cannot take.

    Args:
        key: the input's.
        spec: what it takes.
        dtype: the array's; NumPy's `object` counts as strings.
        shape: the array's.

    Raises:
        Failure: if the two do not go together.

    Example:
        >>> check_one("lengths", Spec(tf.int32, (None,), "x:0"), tf.float32, (2,))
        Traceback (most recent call last):
            ...
        zoo.serving.failure.Failure: input 'lengths' takes int32[?], not float32[2]
    """
    if dtype != spec.dtype or not spec.fits(shape):
        raise invalid(f"input {quoted(key)} takes {spec}, not {Spec(dtype, shape, '')}")


def read_signatures(meta_graph: Any) -> dict[str, Signature]:
    """The signatures of a SavedModel, by name.

    Args:
        meta_graph: its MetaGraphDef.

    Those that hold anything but dense tensors are left out, as are those for TensorFlow alone.
    """
    found = {}
    for name, definition in meta_graph.signature_def.items():
        sides = (definition.inputs, definition.outputs)
        dense = all(
            info.WhichOneof("encoding") == "name" for side in sides for info in side.values()
        )
        if definition.method_name and dense and definition.outputs:
            inputs, outputs = ({key: _spec(side[key]) for key in sorted(side)} for side in sides)
            found[name] = Signature(name, definition.method_name, inputs, outputs)
    return found


def _spec(info: Any) -> Spec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return Spec(tf.as_dtype(info.dtype), shape, info.name)


def chosen(signatures: Mapping[str, Signature], name: str) -> Signature:
    """The signature of that name, or the default one if the name is empty.

    Raises:
        Failure: if there is none.
    """
    signature = signatures.get(name or DEFAULT)
    if signature is None:
        known = ", ".join(map(quoted, sorted(signatures)))
        raise Failure(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the model has no signature {quoted(name or DEFAULT)}. Known: {known}",
        )
    return signature
