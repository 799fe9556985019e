"""Requests that a server answers for itself before it answers others: TensorFlow Serving's warm-up.

TensorFlow Serving replays `assets.extra/tf_serving_warmup_requests` when it loads a SavedModel, so
that no caller waits for what is made at a first request. The file is a TFRecord of
`tensorflow.serving.PredictionLog` messages.

Those messages are described here, the few fields that are used, to protobuf itself, which writes
them: an export would else need TensorFlow Serving's package, and gRPC with it, for one small file.
The numbers of the fields are TensorFlow Serving's `prediction_log.proto`, `predict.proto` and
`model.proto`, which cannot change; a test reads the file with the published classes.
"""

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

FILE = "tf_serving_warmup_requests"

# What TensorFlow Serving reads of it at most.
MOST_REQUESTS = 1_000

_PACKAGE = "zoo.warmup"
_TENSOR = tensor_pb2.TensorProto.DESCRIPTOR.file
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE

Request = Mapping[str, tf.Tensor]


def write_warmup(
    folder: str | os.PathLike[str], name: str, requests: Iterable[tuple[str, Request]]
) -> Path:
    """Writes the warm-up of a SavedModel.

    Args:
        folder: its `assets.extra`, which exists.
        name: the name under which it is served.
        requests: signatures, each with its inputs by name; 1,000 are read at most.

    Returns:
        The file.

    Raises:
        ValueError: for more requests than are read.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> requests = [("serving_default", {"text": tf.constant(["a film", ""])})]
        >>> write_warmup(tempfile.mkdtemp(), "first", requests).name
        'tf_serving_warmup_requests'
    """
    logs = [_log(name, signature, inputs) for signature, inputs in requests]
    if len(logs) > MOST_REQUESTS:
        raise ValueError(f"{len(logs)} requests are more than the {MOST_REQUESTS} that are read")
    path = Path(folder) / FILE
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString(deterministic=True))
    return path


def _log(name: str, signature: str, inputs: Request) -> Any:
    log = _prediction_log()()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        # By way of bytes: this pool of descriptors has a class of its own for a tensor.
        request.inputs[key].ParseFromString(tf.make_tensor_proto(value).SerializeToString())
    return log


@functools.cache
def _prediction_log() -> Any:
    """The class of `PredictionLog`."""
    file = descriptor_pb2.FileDescriptorProto(
        name="zoo/warmup.proto", package=_PACKAGE, syntax="proto3", dependency=[_TENSOR.name]
    )
    _add(file, "ModelSpec", ("name", 1, _STRING), ("signature_name", 3, _STRING))
    request = _add(file, "PredictRequest", ("model_spec", 1, "ModelSpec"))
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, _STRING)
    _field(entry, "value", 2, tensor_pb2.TensorProto.DESCRIPTOR.full_name, package="")
    _field(request, "inputs", 2, "PredictRequest.InputsEntry").label = _REPEATED
    _add(file, "PredictLog", ("request", 1, "PredictRequest"))
    _add(file, "PredictionLog", ("predict_log", 6, "PredictLog"))
    # A pool apart, so that the published classes may live in the same process.
    pool = descriptor_pool.DescriptorPool()
    for known in (*_with_dependencies(_TENSOR), file):
        pool.Add(known)
    described = pool.FindMessageTypeByName(f"{_PACKAGE}.PredictionLog")
    return message_factory.GetMessageClass(described)


def _add(file: Any, name: str, *fields: tuple[str, int, Any]) -> Any:
    message = file.message_type.add(name=name)
    for field in fields:
        _field(message, *field)
    return message


def _field(message: Any, name: str, number: int, kind: Any, package: str = _PACKAGE) -> Any:
    field = message.field.add(name=name, number=number, label=_OPTIONAL)
    if isinstance(kind, str):
        field.type, field.type_name = _MESSAGE, f".{package}.{kind}".replace("..", ".")
    else:
        field.type = kind
    return field


def _with_dependencies(file: Any) -> list[descriptor_pb2.FileDescriptorProto]:
    """A file's description, behind those of all that it imports."""
    every: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for needed in file.dependencies:
        every.update((known.name, known) for known in _with_dependencies(needed))
    every[file.name] = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(every[file.name])
    return list(every.values())
