"""Text and free JSON from clients."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.domain.text import MAX_JSON_DEPTH, MAX_PROMPT_CHARACTERS, Name, Prompt, json_object

NAME: TypeAdapter[str] = TypeAdapter(Name)
PROMPT: TypeAdapter[str] = TypeAdapter(Prompt)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@pytest.mark.parametrize("name", ["me", "Ключ", "山田　太郎", "👨\u200d👩\u200d👧", "a\u00a0b", "x" * 100])
def test_names_in_every_script_are_taken(name: str) -> None:
    assert NAME.validate_python(f"  {name}\t") == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\tb", "a\x00b", "a\x1bb", "a\u2028b", "\ud800", "x" * 101])
def test_a_name_is_one_line_that_can_be_shown_and_stored(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


def test_a_prompt_may_have_lines_and_an_end() -> None:
    assert PROMPT.validate_python("a\nb\t👍") == "a\nb\t👍"
    assert PROMPT.validate_python("x" * MAX_PROMPT_CHARACTERS)
    for bad in ("x" * (MAX_PROMPT_CHARACTERS + 1), "a\x00", "\udfff"):
        with pytest.raises(ValidationError):
            PROMPT.validate_python(bad)


@given(st.dictionaries(st.text("abc", max_size=3), JSON_VALUES, max_size=4))
def test_what_every_database_can_keep_is_taken_as_it_is(value: dict[str, object]) -> None:
    assert json_object(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("[]", "a JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": [1e999]}', "NaN or infinity"),
        ('{"a": {"b": "\\u0000"}}', "NUL"),
        ('{"\\u0000": 1}', "NUL"),
        ('{"a": "\\ud800"}', "Unicode"),
        ('{"a": ' + "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH + "}", "nested deeper"),
    ],
)  # fmt: skip
def test_what_no_database_could_keep_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        json_object(text)


def test_the_text_of_an_escape_is_no_nul() -> None:
    assert json_object('{"a": "\\\\u0000"}') == {"a": "\\u0000"}
