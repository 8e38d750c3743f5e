"""The OpenAPI document: an example on every operation, and nothing in it that the service does not keep."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.routes import wait
from tests.service import Service, over_http

EXAMPLES = 15
Case = schemathesis.Case[Any]


def no_server_error(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """503 is no error where it is documented, such as for a base model that is not installed."""
    return None if response.status_code == 503 else not_a_server_error(ctx, response, case)


CHECKS = [no_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def _example(document: dict[str, Any], content: dict[str, Any]) -> object:
    """Beside the schema, in it, or in what it refers to."""
    media = next(iter(content.values()))
    schema = media.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return media.get("example", schema.get("example"))


async def test_every_operation_has_an_example_of_what_it_takes_and_gives(service: Service) -> None:
    document = service.app.openapi()
    lacking = []
    for name, operation in _operations(document):
        if "requestBody" in operation and _example(document, operation["requestBody"]["content"]) is None:
            lacking.append(f"{name}: request")
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path" and not (parameter.get("examples") or parameter["schema"].get("examples")):
                lacking.append(f"{name}: {parameter['name']}")
        for status, response in operation["responses"].items():
            binary = set(response.get("content", {})) & {
                "image/png",
                "image/webp",
                "image/jpeg",
                "application/octet-stream",
                "application/zip",
            }
            if "content" in response and not binary and _example(document, response["content"]) is None:
                lacking.append(f"{name}: {status}")
    assert lacking == []


async def test_every_operation_says_what_it_does_and_which_problems_it_answers(service: Service) -> None:
    for name, operation in _operations(service.app.openapi()):
        assert operation["summary"], name
        for status, response in operation["responses"].items():
            if int(status) >= 400 and name != "GET /ready":
                assert set(response["content"]) == {"application/problem+json"}, (name, status)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", GenerationMode)
async def test_no_input_made_from_the_document_finds_it_untrue(
    service: Service, mode: GenerationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(*_: object) -> bool:
        return False

    monkeypatch.setattr(wait, "ended", at_once)  # nobody draws here, and `wait` may be a minute
    await service.pulse("flux-dev", "flux-tiny")
    async with over_http(service.settings) as client:
        await asyncio.to_thread(_try_all, f"{client.base_url}/openapi.json", mode)


def _try_all(url: str, mode: GenerationMode) -> None:
    found = list(schemathesis.openapi.from_url(url).get_all_operations())
    operations = [operation.ok() for operation in found if isinstance(operation, Ok)]
    assert len(operations) == len(found) > 20
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
            continue  # it takes nothing that could be wrong
        given(case=operation.as_strategy(generation_mode=mode))(_try_one)()


@settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
def _try_one(case: Case) -> None:
    case.call_and_validate(checks=CHECKS)
