"""What clients write: what every text must be, whatever it is for, and free JSON."""

import json
import math
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints


def storable(text: str) -> str:
    """Refuse what databases, files or engines cannot hold: NUL and halves of surrogate pairs."""
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("must be valid Unicode, without lone surrogates") from exc
    return text


def one_line(text: str) -> str:
    """Refuse line breaks and control characters; the joiners inside emoji and wide spaces are fine."""
    if any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in text):
        raise ValueError("must be one line without control characters")
    return text


def json_object(text: str) -> dict[str, Any]:
    """An object that every database can keep: no NUL, lone surrogates, NaN or infinity, and not too deep.

    Raises ValueError with the reason.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError("must be JSON") from exc
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    return storable_json(value)


def storable_json(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what databases cannot hold, anywhere in it. Raises ValueError with the reason."""
    _check_json(value, MAX_JSON_DEPTH)
    return value


def _check_json(value: Any, levels: int) -> None:
    if levels == 0:
        raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        storable(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must not contain NaN or infinity")
    elif isinstance(value, dict):
        for key, item in value.items():
            storable(key)
            _check_json(item, levels - 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, levels - 1)


MAX_JSON_DEPTH = 32
MAX_PROMPT_CHARACTERS = 5000
Text = Annotated[str, AfterValidator(storable)]
Prompt = Annotated[Text, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(storable),
    AfterValidator(one_line),
]
"""A name for people; never a path."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$", to_lower=True)]
JsonObject = Annotated[dict[str, Any], BeforeValidator(json_object)]
"""A form field that holds a JSON object as text."""
