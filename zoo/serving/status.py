"""What the server says of its models, as TensorFlow Serving's protocol buffers say it."""

from typing import Any

from google.protobuf import any_pb2, json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from zoo.serving.predict import Predictor, Target
from zoo.serving.registry import Registry

# What TensorFlow Serving gives as the code of a version that could not be loaded.
_UNKNOWN = 2


def model_status(registry: Registry, target: Target) -> Any:
    """The states of a model's versions, a `GetModelStatusResponse`.

    Raises:
        Failure: if there is no such model or version.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in registry.status(target.model, target.version, target.label):
        entry = response.model_version_status.add(version=version.number, state=version.state)
        if version.why:
            entry.status.error_code = _UNKNOWN
            entry.status.error_message = version.why
    return response


def model_metadata(predictor: Predictor, target: Target) -> Any:
    """A version's signatures, a `GetModelMetadataResponse`.

    Raises:
        Failure: if there is no such version.
    """
    number, definitions = predictor.definitions(target)
    listed = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in definitions.items():
        listed.signature_def[name].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = target.model
    response.model_spec.version.value = number
    packed = any_pb2.Any()
    packed.Pack(listed)
    response.metadata["signature_def"].CopyFrom(packed)
    return response


def as_json(message: Any) -> dict[str, Any]:
    """A response as TensorFlow Serving writes it in JSON: with its fields' own names, empty or not.

    Example:
        >>> as_json(get_model_status_pb2.GetModelStatusResponse())
        {'model_version_status': []}
    """
    plain = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for entry in plain.get("model_version_status", ()):
        entry.setdefault("status", {"error_code": "OK", "error_message": ""})
    for value in plain.get("metadata", {}).values():
        value.pop("@type", None)
    return plain
