"""What a person calls a picture."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from api.domain.text import one_line, storable

MAX_TAGS = 50

Tag = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=50),
    AfterValidator(storable),
    AfterValidator(one_line),
]


def _each_once(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS), AfterValidator(_each_once)]
"""In their order, each once."""
