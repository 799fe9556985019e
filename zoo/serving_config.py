"""What TensorFlow Serving is told to serve a SavedModel: alone, in a container, in a cluster.

The files are templates with the model's name in them. That name is checked, so that it is a word in
every format that it stands in.
"""

import os
import re
import textwrap
from pathlib import Path

import tensorflow as tf

from zoo.errors import RunError, UsageError, reason
from zoo.export import check_writable
from zoo.paths import expanded
from zoo.whole_files import replacing

# What YAML reads as something else than a word.
_NO_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
# A label of RFC 1035, which a Service is named by, short enough for what a cluster adds to it.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?")

_MODELS = """\
# The models to serve, a tensorflow.serving.ModelServerConfig. Others may stand beside this one.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    # A new version is loaded before the one before it goes: none is answered for by nobody.
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""

_BATCHING = """\
# How requests are put together, a tensorflow.serving.BatchingParameters.
max_batch_size {{ value: 64 }}
# A lone caller waits this long for others.
batch_timeout_micros {{ value: 2000 }}
# Beyond this many full batches, callers are turned away instead of kept waiting.
max_enqueued_batches {{ value: 100 }}
"""

# What a track is padded with does not matter: its length is told.
_PADDED = "# Tracks of unlike length are padded to the longest.\npad_variable_length_inputs: true\n"

_CONTAINER = """\
#!/bin/sh
# Serves {name} on this machine: gRPC on port 8500, REST on port 8501. Needs Docker.
set -eu
config=$(cd "$(dirname "$0")" && pwd)
models=$(cd "${{1:?give the folder that holds {name}/, such as saved_models}}" && pwd)
exec docker run --rm --name={name} \\
  --publish=127.0.0.1:8500:8500 --publish=127.0.0.1:8501:8501 \\
  --mount="type=bind,source=$models,target=/models,readonly" \\
  --mount="type=bind,source=$config,target=/config,readonly" \\
  {image} \\
  --model_config_file=/config/models.config \\
  --enable_batching=true --batching_parameters_file=/config/batching.config
"""

_DEPLOYMENT = """\
# Serves {name} in a Kubernetes cluster; it is read from a claim named saved-models.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
data:
  models.config: |
{models}
  batching.config: |
{batching}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  replicas: 2
  selector:
    matchLabels: {{app: {name}}}
  strategy:
    # A new pod answers before an old one goes.
    rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      automountServiceAccountToken: false
      containers:
        - name: serving
          image: {image}
          args:
            - --model_config_file=/config/models.config
            - --enable_batching=true
            - --batching_parameters_file=/config/batching.config
          ports:
            - {{name: grpc, containerPort: 8500}}
            - {{name: rest, containerPort: 8501}}
          # Loading and warming up: two minutes at most.
          startupProbe:
            httpGet: {{path: /v1/models/{name}, port: rest}}
            periodSeconds: 2
            failureThreshold: 60
          # Answers as long as a version is there that can be asked.
          readinessProbe:
            httpGet: {{path: /v1/models/{name}/metadata, port: rest}}
            periodSeconds: 5
          livenessProbe:
            httpGet: {{path: /v1/models/{name}, port: rest}}
            periodSeconds: 10
            failureThreshold: 6
          resources:
            requests: {{cpu: "1", memory: 1Gi}}
            limits: {{memory: 2Gi}}
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: {{drop: [ALL]}}
          volumeMounts:
            - {{name: config, mountPath: /config, readOnly: true}}
            - {{name: models, mountPath: /models, readOnly: true}}
      volumes:
        - name: config
          configMap: {{name: {name}}}
        - name: models
          persistentVolumeClaim: {{claimName: saved-models, readOnly: true}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{app: {name}}}
  ports:
    - {{name: grpc, port: 8500, targetPort: grpc}}
    - {{name: rest, port: 8501, targetPort: rest}}
"""

_KSERVE = """\
# Serves {name} by KServe; it is read from a claim named saved-models.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    minReplicas: 1
    model:
      modelFormat:
        name: tensorflow
      protocolVersion: v1
      # KServe's own choice is years behind the TensorFlow that wrote the SavedModel.
      runtimeVersion: "{version}"
      storageUri: pvc://saved-models/{name}
      resources:
        requests: {{cpu: "1", memory: 1Gi}}
        limits: {{cpu: "2", memory: 2Gi}}
"""

_FILES = {
    "models.config": _MODELS,
    "batching.config": _BATCHING,
    "run_container.sh": _CONTAINER,
    "deployment.yaml": _DEPLOYMENT,
    "inference_service.yaml": _KSERVE,
}


def check_serving_config(name: str, folder: str | os.PathLike[str]) -> Path:
    """The folder of the files, checked before any work is done for it.

    Args:
        name: the SavedModel's name.
        folder: where the files are to go.

    Raises:
        UsageError: for a name that a cluster would not take, or no folder.
        RunError: if the folder cannot be written to.

    Example:
        >>> check_serving_config("First", "serving")
        Traceback (most recent call last):
        zoo.errors.UsageError: name='First' cannot name a service: lower-case letters, digits and \
'-', a letter first, at most 50
    """
    if not _NAME.fullmatch(name) or name in _NO_WORDS:
        raise UsageError(
            f"name={name!r} cannot name a service: lower-case letters, digits and '-', a letter "
            "first, at most 50"
        )
    if not os.fspath(folder):
        raise UsageError("--serving_config= cannot work: it must name a folder")
    path = expanded(folder)
    check_writable(path)
    return path


def write_serving_config(name: str, folder: str | os.PathLike[str], *, text: bool) -> list[Path]:
    """Writes what it takes to serve a SavedModel with TensorFlow Serving, KServe or Kubernetes.

    Args:
        name: the SavedModel's name.
        folder: where the files go; made if it is missing. Files of these names are replaced.
        text: whether it takes texts; the lengths of tracks are evened out.

    Returns:
        `models.config`, `batching.config`, `run_container.sh`, `deployment.yaml`, a Deployment
        with its Service and settings, and `inference_service.yaml`, for KServe.

    Raises:
        UsageError, RunError: as `check_serving_config`, or if a file cannot be written.

    Example:
        >>> import tempfile
        >>> files = write_serving_config("first", tempfile.mkdtemp(), text=True)
        >>> files[0].read_text().splitlines()[3].strip()
        'name: "first"'
    """
    path = check_serving_config(name, folder)
    version = tf.version.VERSION.split("-")[0]
    words = {"name": name, "version": version, "image": f"tensorflow/serving:{version}"}
    models = _MODELS.format(**words)
    batching = _BATCHING.format() + ("" if text else _PADDED)
    words["models"], words["batching"] = (
        textwrap.indent(part, "    ").rstrip() for part in (models, batching)
    )
    written = []
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file, template in _FILES.items():
            content = batching if file == "batching.config" else template.format(**words)
            with replacing(path / file) as beside:
                beside.write_text(content, "utf-8")
                beside.chmod(0o755 if file.endswith(".sh") else 0o644)
            written.append(path / file)
    except OSError as error:
        raise RunError(f"cannot write to {path}: {reason(error)}") from error
    return written
