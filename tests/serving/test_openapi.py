"""The server against its own description: what schemathesis makes up is answered as described."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Names that exist stand beside made-up ones: nearly all of these would be unknown.
NAMES = {"model": ["reviews", "echo", "classifier", "../../etc"], "label": ["stable", "lost"]}


@pytest.fixture(scope="session")
def described(running):
    description = running.http.get("/openapi.json").json()
    for operations in description["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in NAMES:
                    text = parameter["schema"]
                    parameter["schema"] = {"anyOf": [{"enum": NAMES[parameter["name"]]}, text]}
                else:
                    parameter["schema"] = {"anyOf": [{"enum": [1, 2]}, parameter["schema"]]}
    return schemathesis.openapi.from_dict(description)


def test_every_operation_answers_as_it_is_described(described, running):
    url = f"http://127.0.0.1:{running.server.rest_port}"
    asked = []
    for operation in (found.ok() for found in described.get_all_operations()):

        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(case=operation.as_strategy())
        def answers_as_described(case):
            case.call_and_validate(base_url=url, checks=CHECKS)

        answers_as_described()
        asked.append(operation.label)
    assert len(asked) == 21
