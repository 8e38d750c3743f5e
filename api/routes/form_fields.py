"""Bodies that no signature describes: a form's plain fields, checked as strictly as JSON, and JSON beside a form."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api.errors import InputError
from api.routes.problems import BODY_HINT, BodyProblem

Form = TypeVar("Form", bound=BaseModel)


def parse_fields(fields: Mapping[str, Sequence[str]], form: type[Form]) -> Form:
    """A field left empty counts as left out, as browsers send them all.

    Raises RequestValidationError with the `loc` of every wrong field, InputError `field_repeated`.
    """
    for name, values in fields.items():
        if len(values) > 1:
            raise InputError(f"The field was sent {len(values)} times.", code="field_repeated", value=name)
    try:
        return form.model_validate({name: value for name, (value,) in fields.items() if value})
    except ValidationError as exc:
        raise RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]) from exc


def parse_json(body: bytes, form: type[Form]) -> Form:
    """For a route that takes JSON or a form. Raises RequestValidationError, RequestProblem `body_not_json`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise BodyProblem("The body is not JSON that can be read.", hint=BODY_HINT) from exc
    try:
        return form.model_validate(value)
    except ValidationError as exc:
        raise RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]) from exc
