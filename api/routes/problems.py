"""The only place that knows how an error becomes HTTP: RFC 9457 problem+json with a stable `code`."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.errors import MasukaError, UnavailableError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
SHOWN_CHARACTERS = 200


class FieldError(BaseModel):
    loc: list[str | int] = Field(examples=[["body", "rank"]])
    msg: str = Field(examples=["Input should be less than or equal to 256"])
    type: str = Field(examples=["less_than_equal"])
    input: str | None = Field(None, examples=["512"])


class Problem(BaseModel):
    """What every error answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:masuka:problem:dataset_not_found",
                "title": "Not found",
                "status": 404,
                "code": "dataset_not_found",
                "detail": "There is no dataset with this id.",
                "value": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
            }
        }
    )

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; what programs match on.")
    detail: str = Field(description="What was wrong.")
    value: str | None = Field(None, description="The value that was wrong.")
    hint: str | None = Field(None, description="What to do.")
    errors: list[FieldError] | None = Field(None, description="For each wrong field, where and why.")


def problem(error: MasukaError, errors: Sequence[FieldError] | None = None) -> Problem:
    return Problem(
        type=f"urn:masuka:problem:{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=_plain(error.detail),
        value=None if error.value is None else show(error.value),
        hint=error.hint,
        errors=list(errors) if errors else None,
    )


def answer(found: Problem) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if found.status == 401 else None
    return JSONResponse(found.model_dump(exclude_none=True), found.status, headers, MEDIA_TYPE)


def show(value: object) -> str:
    """A wrong value as text that fits in an answer and is valid Unicode."""
    text = _plain(value if isinstance(value, str) else repr(value))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class RequestProblem(MasukaError):
    """One or more fields of the request are wrong."""

    status = 422
    title = "Invalid request"
    default_code = "validation_failed"


class BodyProblem(RequestProblem):
    """The body is not valid JSON."""

    default_code = "body_not_json"


def _http_problem(status: int, detail: str) -> MasukaError:
    code = {400: "bad_request", 404: "route_not_found", 405: "method_not_allowed"}.get(status, f"http_{status}")
    kind: type[MasukaError] = type("HttpProblem", (MasukaError,), {"status": status, "title": detail})
    return kind(detail, code=code)


def _validation(exc: RequestValidationError) -> Problem:
    raw = exc.errors()
    errors = [
        FieldError(
            loc=[part if isinstance(part, int) else _plain(part) for part in e["loc"]],
            msg=_plain(e["msg"]),
            type=e["type"],
            input=show(e.get("input")),
        )
        for e in raw[:50]
    ]
    if any(e.type == "json_invalid" for e in errors):
        return problem(BodyProblem(hint="Send a JSON object with Content-Type: application/json."), errors)
    first = errors[0]
    where = ".".join(str(part) for part in first.loc[1:]) or str(first.loc[0])
    return problem(RequestProblem(f"{where}: {first.msg}", value=raw[0].get("input")), errors)


def install(app: FastAPI) -> None:
    """Map every exception that can leave a route."""

    @app.exception_handler(MasukaError)
    async def _known(request: Request, exc: MasukaError) -> JSONResponse:
        if exc.status >= 500:
            log.warning("request_failed", path=request.url.path, code=exc.code, error=exc.detail)
        return answer(problem(exc))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, exc: RequestValidationError) -> JSONResponse:
        return answer(_validation(exc))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, exc: HTTPException) -> JSONResponse:
        found = answer(problem(_http_problem(exc.status_code, str(exc.detail))))
        found.headers.update(exc.headers or {})
        return found

    @app.exception_handler(SQLAlchemyError)
    async def _database(request: Request, exc: SQLAlchemyError) -> JSONResponse:
        log.error("database_failed", path=request.url.path, error=str(exc))
        return answer(
            problem(
                UnavailableError("The database does not answer.", code="database_unavailable", hint="Try again soon.")
            )
        )

    @app.exception_handler(Exception)
    async def _unknown(request: Request, exc: Exception) -> JSONResponse:
        log.error("request_crashed", path=request.url.path, exc_info=exc)
        return answer(
            problem(MasukaError("Something went wrong inside MASUKA.", hint="The API's log has the details."))
        )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may answer these problems."""
    return {status: {"model": Problem, "content": {MEDIA_TYPE: {}}} for status in statuses}
