"""The only place that knows how an error becomes HTTP: RFC 9457 problem+json with a stable `code`."""

import reprlib
from collections.abc import Sequence
from http import HTTPStatus
from socket import gaierror
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api.db import may_come
from api.domain.intake import NoUsableImagesError
from api.errors import Fault, FaultsError, MasukaError, UnavailableError
from api.routes.safe_headers import SAFE

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
PROBLEM_SCHEMA = "Problem"
SHOWN_CHARACTERS = 200
SHOWN_ERRORS = 50
HTTP_CODES = {400: "bad_request", 404: "route_not_found", 405: "method_not_allowed"}

_brief = reprlib.Repr()
_brief.maxlevel = 3  # a value nested a thousand deep must not overflow the stack here, too
_brief.maxstring = _brief.maxother = _brief.maxlong = SHOWN_CHARACTERS


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
    if isinstance(error, NoUsableImagesError):
        errors = [
            FieldError(loc=["body", "files", entry.filename], msg=entry.reason, type=entry.code or "", input=None)
            for entry in error.report[:SHOWN_ERRORS]
        ]
    if isinstance(error, FaultsError):
        errors = [_field_error(fault) for fault in error.faults[:SHOWN_ERRORS]]
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


def _field_error(fault: Fault) -> FieldError:
    return FieldError(
        loc=["body", *(part if isinstance(part, int) else show(part) for part in fault.loc)],
        msg=_plain(fault.message),
        type=fault.code,
        input=None if fault.value is None else show(fault.value),
    )


def answer(found: Problem) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if found.status == 401 else None
    return JSONResponse(found.model_dump(exclude_none=True), found.status, headers, MEDIA_TYPE)


def show(value: object) -> str:
    """A wrong value as text that fits in an answer and is valid Unicode."""
    text = value if isinstance(value, str) else _brief.repr(value)
    return _plain(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")


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


BODY_HINT = "Send a JSON object with Content-Type: application/json."


class ContentTypeProblem(RequestProblem):
    """The body is not sent as JSON."""

    status = 415
    title = "Unsupported media type"
    default_code = "content_type_not_json"


def _http_problem(exc: HTTPException) -> Problem:
    """What Starlette or FastAPI refuses; FastAPI wraps whatever reading the body raises in a 400."""
    if isinstance(exc.__cause__, MasukaError):
        return problem(exc.__cause__)
    if isinstance(exc.__cause__, RecursionError | ValueError):  # nested too deep; a number too long; not UTF-8
        return problem(BodyProblem("The body is not JSON that can be read.", hint=BODY_HINT))
    code = HTTP_CODES.get(exc.status_code, f"http_{exc.status_code}")
    return Problem(
        type=f"urn:masuka:problem:{code}",
        title=HTTPStatus(exc.status_code).phrase,
        status=exc.status_code,
        code=code,
        detail=_plain(exc.detail),
    )


def _validation(exc: RequestValidationError) -> Problem:
    raw = exc.errors()
    if raw[0]["loc"] == ("body",) and isinstance(raw[0].get("input"), bytes):
        return problem(ContentTypeProblem(hint=BODY_HINT))
    errors = [
        FieldError(
            loc=[part if isinstance(part, int) else show(part) for part in e["loc"]],
            msg=_plain(e["msg"]),
            type=e["type"],
            input=show(e.get("input")),
        )
        for e in raw[:SHOWN_ERRORS]
    ]
    first = errors[0]
    if first.type == "json_invalid":
        return problem(BodyProblem(hint=BODY_HINT), errors)
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
        found = answer(_http_problem(exc))
        found.headers.update(exc.headers or {})
        return found

    # The drivers let connections that are refused or silent through as they are; nothing else here raises those.
    @app.exception_handler(ConnectionError)
    @app.exception_handler(TimeoutError)
    @app.exception_handler(gaierror)
    @app.exception_handler(SQLAlchemyError)
    async def _database(request: Request, exc: Exception) -> JSONResponse:
        if isinstance(exc, SQLAlchemyError) and not _database_is_away(exc):
            return _crashed(request, exc)
        log.error("database_failed", path=request.url.path, error=str(exc))
        away = UnavailableError("The database does not answer.", code="database_unavailable", hint="Try again soon.")
        return answer(problem(away))

    @app.exception_handler(Exception)
    async def _unknown(request: Request, exc: Exception) -> JSONResponse:
        return _crashed(request, exc)


def _database_is_away(exc: SQLAlchemyError) -> bool:
    lost = isinstance(exc, DBAPIError) and exc.connection_invalidated
    return lost or isinstance(exc, OperationalError | InterfaceError | PoolTimeoutError) or may_come(exc)


def _crashed(request: Request, exc: Exception) -> JSONResponse:
    log.error("request_crashed", path=request.url.path, exc_info=exc)
    found = answer(problem(MasukaError("Something went wrong inside MASUKA.", hint="The API's log has the details.")))
    found.headers.update(SAFE)  # a crash is answered outside of what else says so
    return found


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may answer these problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
