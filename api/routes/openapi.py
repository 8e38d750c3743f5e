"""The OpenAPI document, with what FastAPI does not say by itself: problems have a media type of their own."""

from typing import Any

from fastapi import FastAPI

from api.routes.guard import OPEN_PATHS
from api.routes.problems import PROBLEM_SCHEMA, Problem, responses


def describe(app: FastAPI) -> None:
    """Add to `app.openapi()` the problem's schema, and the problems that do not come from a route itself."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate())
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _complete(document: dict[str, Any]) -> None:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**problem.pop("$defs"), PROBLEM_SCHEMA: problem}
    for path, item in document["paths"].items():
        for operation in item.values():
            if path not in OPEN_PATHS:
                _add(operation, 401, 403)
            if "application/json" in operation.get("requestBody", {}).get("content", {}):
                _add(operation, 413, 415)


def _add(operation: dict[str, Any], *statuses: int) -> None:
    for status, response in responses(*statuses).items():
        operation["responses"].setdefault(str(status), response)
