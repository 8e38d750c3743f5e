"""Text from clients: what every field of it must be, whatever it is for."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints


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
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    return text


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
