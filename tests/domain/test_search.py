"""Words of a picture: the same whatever their case, width or signs around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.search import MAX_WORD_CHARACTERS, document, token, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A photo, of (ohwx:1.2)!", ["a", "photo", "of", "ohwx", "1", "2"]),
        ("Straße STRASSE", ["strasse"]),
        ("ＦＵＬＬ　width", ["full", "width"]),
        ("snake_case-and'quotes", ["snake", "case", "and", "quotes"]),
        ("🔥 ☃ -- %_", []),
        ("日本 の", ["日本", "の"]),
    ],
)
def test_a_text_is_its_words_each_once(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text())
def test_words_are_stable_and_hold_nothing_that_a_query_could_mean(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word.isalnum() and len(word) <= MAX_WORD_CHARACTERS for word in found)


def test_a_document_says_where_each_word_stands() -> None:
    loras = [{"model_id": "6F-01"}, {"file": "by-hand.safetensors"}]
    config = {"workflow": "my_flow", "base_model": "flux-dev", "loras": loras}
    text = document(prompt="a cat", negative_prompt="blur", tags=["New Year"], model_id=None, config=config)
    assert text == " pa pcat nblur tnew tyear wmy wflow l6f01 bfluxdev "


def test_a_document_of_nothing_has_no_words() -> None:
    assert document(prompt="", negative_prompt="", tags=[], model_id=None, config={}).split() == []


def test_a_name_is_one_word() -> None:
    assert token("flux-dev 2") == "fluxdev2"
    assert token("0000-0007-0000") == "000000070000"
