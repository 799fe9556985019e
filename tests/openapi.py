"""Schemas of a cluster's objects, read out of Python packages that are never imported.

What their generator wrote tells the type of every field: `list[V1beta1Name]`, `str`, …
"""

import ast
import importlib.metadata
import os
import re

import kubernetes_validate
import pytest

_KINDS = {"str": str, "int": int, "float": float, "bool": bool, "object": object}


def schema(package, name):
    """The type of each key of an object that a package knows; `None` for what it does not."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        if "CI" in os.environ:  # there it is installed, or an install step is missing
            raise
        pytest.skip(f"{package} is not installed: see tests/requirements.txt")
    for file in files:
        if file.parent.name != "models" or file.suffix != ".py":
            continue
        if f"class {name}(" in (text := file.read_text("utf-8")):
            (body,) = (n.body for n in ast.parse(text).body if _is_class(n, name))
            maps = {n.targets[0].id: n.value for n in body if isinstance(n, ast.Assign)}
            types, keys = (ast.literal_eval(maps[m]) for m in ("openapi_types", "attribute_map"))
            return {keys[attribute]: kind for attribute, kind in types.items()}
    return None


def _is_class(node, name):
    return isinstance(node, ast.ClassDef) and node.name == name


def assert_fits(value, package, kind, place=""):
    """Holds a value against a type of a package; what is Kubernetes' own, against that."""
    if kind in _KINDS:
        assert isinstance(value, _KINDS[kind]), place
    elif inner := re.fullmatch(r"list\[(.+)\]", kind):
        assert isinstance(value, list), place
        for item in value:
            assert_fits(item, package, inner[1], f"{place}[]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for key, item in value.items():
            assert_fits(item, package, inner[1], f"{place}.{key}")
    elif (known := schema(package, kind)) is not None:
        for key, item in value.items():
            assert key in known, f"{place} has no {key}"
            assert_fits(item, package, known[key], f"{place}.{key}")
    else:
        _assert_kubernetes(value, kind, place)


def _assert_kubernetes(value, kind, place):
    metadata, container = {"name": "name"}, {"name": "name", "image": "image"}
    spec = {"containers": [container]}
    match kind:
        case "V1ObjectMeta":
            metadata = value
        case "V1ResourceRequirements":
            container["resources"] = value
        case "V1PodTemplateSpec":
            assert set(value) <= {"metadata", "spec"}, place
            metadata, spec = metadata | value.get("metadata", {}), value["spec"]
        case _:
            raise AssertionError(f"{place}: nobody holds {kind} against Kubernetes yet")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
