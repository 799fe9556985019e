"""What a SavedModel wants to be asked before it serves, in TensorFlow Serving's format."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from zoo.errors import RunError, reason
from zoo.serving.signatures import DEFAULT

FILE = Path("assets.extra", "tf_serving_warmup_requests")
# As many as TensorFlow Serving takes.
_MOST_RECORDS = 1000


@dataclass(frozen=True)
class Request:
    """One of them.

    Args:
        signature: the signature's name.
        inputs: an array for each input.
    """

    signature: str
    inputs: dict[str, np.ndarray]


def requests_of(folder: Path) -> Iterator[Request]:
    """Reads a version's warm-up requests, those to `Predict`.

    Args:
        folder: the version's.

    Yields:
        The requests, in their order; none if there is no such file.

    Raises:
        RunError: if the file holds anything else than PredictionLog records, or too many.
    """
    path = folder / FILE
    if not path.is_file():
        return
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            if number == _MOST_RECORDS:
                raise RunError(f"its warm-up holds more than {_MOST_RECORDS} requests")
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") == "predict_log":
                request = log.predict_log.request
                yield Request(
                    request.model_spec.signature_name or DEFAULT,
                    {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()},
                )
    except (tf.errors.OpError, DecodeError, TypeError, ValueError) as error:
        raise RunError(f"its warm-up cannot be read: {reason(error)}") from error
