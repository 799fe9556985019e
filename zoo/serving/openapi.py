"""What the REST API takes and returns, as OpenAPI 3.1 and as a page without outside resources."""

import html
import json
from typing import Any

from zoo import __version__

_WHICH = {
    "": "the highest version",
    "/versions/{version}": "one version",
    "/labels/{label}": "the version of that label",
}
_ERRORS = {
    "400": "The request is no such request, or does not fit the signature.",
    "401": "There is no token, or a wrong one.",
    "403": "It comes from a page of another origin.",
    "404": "No such model or version.",
    "408": "The body did not come in time.",
    "413": "The body is over the limit.",
    "429": "The queue is full.",
    "500": "The model failed.",
    "503": "No version is ready yet, or there are too many requests.",
}
_TEXT = {"type": "string"}


def description(token: bool) -> dict[str, Any]:
    """The API as an OpenAPI document.

    Args:
        token: whether callers must show one.

    Example:
        >>> description(False)["paths"]["/healthz"]["get"]["summary"]
        'Whether the process is alive.'
    """
    paths: dict[str, Any] = {
        "/v1/models": _get("The models, each with the states of its versions.", _object("models")),
        "/healthz": _get("Whether the process is alive.", _object("status")),
        "/readyz": _get("Whether every model has a version that answers.", _object("status")),
        "/monitoring/prometheus/metrics": _get("Counters, for Prometheus.", None),
        "/openapi.json": _get("This description.", {"type": "object"}),
        "/docs": _get("This description as a page.", None),
    }
    for which, words in _WHICH.items():
        place = "/v1/models/{model}" + which
        paths[place] = _get(f"The state of {words}.", _object("model_version_status"), place)
        metadata = f"The signatures of {words}."
        paths[f"{place}/metadata"] = _get(metadata, _object("model_spec", "metadata"), place)
        for verb, schema in (
            ("predict", "Predict"),
            ("classify", "Examples"),
            ("regress", "Examples"),
        ):
            paths[f"{place}:{verb}"] = _post(f"{verb.capitalize()} with {words}.", schema, place)
    paths["/v1/models/{model}"]["get"]["summary"] = "The states of all versions."
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "TensorFlow Serving's REST API", "version": __version__},
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    if token:
        scheme = {"type": "http", "scheme": "bearer"}
        document["components"]["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
    return document


def page(token: bool) -> str:
    """The same as an HTML page.

    Args:
        token: whether callers must show one.
    """
    document = description(token)
    rows = [
        f"<tr><td>{verb.upper()}<td><code>{html.escape(path)}</code>"
        f"<td>{html.escape(operation['summary'])}"
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
    ]
    schemas = html.escape(json.dumps(document["components"], indent=2))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>REST API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 sans-serif;margin:2rem}"
        "table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0;vertical-align:top}"
        "pre{overflow-x:auto}</style>"
        f"<h1>REST API</h1><p>As OpenAPI: <code>/openapi.json</code></p><table>{''.join(rows)}"
        f"</table><h2>Bodies</h2><pre>{schemas}</pre></html>"
    )


def _object(*keys: str) -> dict[str, Any]:
    return {"type": "object", "required": list(keys)}


def _responses(schema: dict[str, Any] | None, codes: Any) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answer: dict[str, Any] = {"description": "The answer."}
    if schema is not None:
        answer["content"] = {"application/json": {"schema": schema}}
    failures = {code: {"description": _ERRORS[code], "content": error} for code in codes}
    return {"200": answer} | failures


def _parameters(place: str) -> list[dict[str, Any]]:
    schemas = {
        "model": _TEXT | {"description": "A model's name."},
        "version": {"type": "integer", "minimum": 0, "description": "A version's number."},
        "label": _TEXT | {"description": "A label of models.config."},
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in schemas.items()
        if f"{{{name}}}" in place
    ]


def _get(summary: str, schema: dict[str, Any] | None, place: str = "") -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": _responses(schema, sorted(_ERRORS)),
    }
    if place:
        operation["parameters"] = _parameters(place)
    return {"get": operation}


def _post(summary: str, schema: str, place: str) -> dict[str, Any]:
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    answer = {"$ref": f"#/components/schemas/{schema}Answer"}
    return {
        "post": {
            "summary": summary,
            "parameters": _parameters(place),
            "requestBody": {"required": True, "content": body},
            "responses": _responses(answer, sorted(_ERRORS)),
        }
    }


def _schemas() -> dict[str, Any]:
    value = {"description": 'A number, a string, true or false, {"b64": ...}, or lists of them.'}
    name = {"signature_name": _TEXT | {"description": "A signature; serving_default if left out."}}
    rows = {"instances": {"type": "array", "items": value}} | name
    columns = {"inputs": value} | name
    features = {"type": "object", "additionalProperties": value}
    listed = {"type": "array", "items": features, "minItems": 1}
    return {
        "Error": _object("error") | {"properties": {"error": _TEXT}},
        "Predict": {
            "oneOf": [
                _object("instances") | {"properties": rows, "additionalProperties": False},
                _object("inputs") | {"properties": columns, "additionalProperties": False},
            ]
        },
        "PredictAnswer": {"oneOf": [_object("predictions"), _object("outputs")]},
        "Examples": _object("examples")
        | {
            "properties": {"examples": listed, "context": features} | name,
            "additionalProperties": False,
        },
        "ExamplesAnswer": _object("results"),
    }
