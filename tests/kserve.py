"""KServe's own schema of its objects, read out of its package, which is never imported."""

import ast
import importlib.metadata
import os
import re

import kubernetes_validate
import pytest

_KINDS = {"str": str, "int": int, "float": float, "bool": bool, "object": object}


def schema(name):
    """The type of each key of one of KServe's objects; `None` for what is Kubernetes's own."""
    try:
        files = importlib.metadata.files("kserve") or []
    except importlib.metadata.PackageNotFoundError:
        if "CI" in os.environ:  # there it is installed, or an install step is missing
            raise
        pytest.skip("kserve is not installed: see tests/requirements.txt")
    for file in files:
        if file.parts[:2] != ("kserve", "models") or file.suffix != ".py":
            continue
        if f"class {name}(" in (text := file.read_text("utf-8")):
            (body,) = (n.body for n in ast.parse(text).body if _is_class(n, name))
            maps = {n.targets[0].id: n.value for n in body if isinstance(n, ast.Assign)}
            types, keys = (ast.literal_eval(maps[m]) for m in ("openapi_types", "attribute_map"))
            return {keys[attribute]: kind for attribute, kind in types.items()}
    return None


def _is_class(node, name):
    return isinstance(node, ast.ClassDef) and node.name == name


def assert_fits(value, kind, place=""):
    """Holds a value against a type as KServe's package writes it: `list[V1beta1Name]`, `str`, …"""
    if kind in _KINDS:
        assert isinstance(value, _KINDS[kind]), place
    elif inner := re.fullmatch(r"list\[(.+)\]", kind):
        assert isinstance(value, list), place
        for item in value:
            assert_fits(item, inner[1], f"{place}[]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for key, item in value.items():
            assert_fits(item, inner[1], f"{place}.{key}")
    elif (known := schema(kind)) is not None:
        for key, item in value.items():
            assert key in known, f"{place} has no {key}"
            assert_fits(item, known[key], f"{place}.{key}")
    else:
        _assert_kubernetes(value, kind, place)


def _assert_kubernetes(value, kind, place):
    metadata, container = {"name": "name"}, {"name": "name", "image": "image"}
    match kind:
        case "V1ObjectMeta":
            metadata = value
        case "V1ResourceRequirements":
            container["resources"] = value
        case _:
            raise AssertionError(f"{place}: nobody holds {kind} against Kubernetes yet")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    pod["spec"] = {"containers": [container]}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
