"""What a figure depends on besides its code: versions, and the machine."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import keras

import zoo

_PACKAGES = {
    "tensorflow": ("tensorflow", "keras", "numpy", "tensorflow-datasets"),
    "jax": ("jax", "keras", "numpy"),
    "torch": ("torch", "keras", "numpy"),
}


def versions() -> dict[str, str]:
    """The versions that a figure depends on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES[keras.backend.backend()]},
        "zoo": zoo.__version__,
    }


def machine() -> dict[str, Any]:
    """What a time was measured on."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpus": _gpus(),
    }


def _gpus() -> list[str]:
    """What Keras's backend finds."""
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    if keras.backend.backend() == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    devices = tf.config.list_physical_devices("GPU")
    return [details(device).get("device_name", "unknown") for device in devices]
