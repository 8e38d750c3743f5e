"""The plain fields of a multipart form, checked as strictly as a JSON body."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api.errors import InputError

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
