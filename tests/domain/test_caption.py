"""Caption text: any file a person may have becomes one clean line, with the trigger word in it once."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.caption import clean_caption, decode_caption, with_trigger_word


@pytest.mark.parametrize(
    "data",
    [
        "eine Frau in Köln".encode(),
        "eine Frau in Köln".encode("utf-8-sig"),
        "eine Frau in Köln".encode("utf-16"),
        "eine Frau in Köln".encode("cp1252"),
        unicodedata.normalize("NFD", "eine Frau in Köln").encode(),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "windows-1252", "decomposed"],
)
def test_the_same_text_comes_out_of_every_encoding(data: bytes) -> None:
    assert decode_caption(data) == "eine Frau in Köln"


def test_all_lines_become_one_so_that_the_trainer_sees_one_caption() -> None:
    assert decode_caption(b"a woman,\r\n  smiling\n\n\tin the park\n") == "a woman, smiling in the park"


def test_controls_are_removed_and_leave_no_double_space() -> None:
    assert decode_caption(b"a\x00 \x07 cat\x1b") == "a cat"


@pytest.mark.parametrize("data", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\x00\x00"])
def test_a_file_without_text_gives_an_empty_caption(data: bytes) -> None:
    assert decode_caption(data) == ""


@given(st.binary(max_size=200))
def test_any_bytes_become_one_clean_line(data: bytes) -> None:
    caption = decode_caption(data)
    assert caption == clean_caption(caption)
    assert caption == " ".join(caption.split())
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in caption)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man", "ohwx, a man"),
        ("ohwx, a man", "ohwx, a man"),
        ("photo of OHWX smiling", "photo of OHWX smiling"),
        ("ohwxes are many", "ohwx, ohwxes are many"),
        ("an_ohwx", "ohwx, an_ohwx"),
        ("", "ohwx"),
        (None, "ohwx"),
    ],
)
def test_the_trigger_word_leads_captions_that_lack_it_as_a_word(caption: str | None, expected: str) -> None:
    assert with_trigger_word(caption, "ohwx") == expected


@pytest.mark.parametrize("trigger_word", [None, ""])
def test_without_a_trigger_word_the_caption_stays_as_it_is(trigger_word: str | None) -> None:
    assert with_trigger_word("a man", trigger_word) == "a man"
    assert with_trigger_word(None, trigger_word) == ""


@given(st.text(max_size=40), st.text(min_size=1, max_size=12).filter(str.strip))
def test_the_trigger_word_is_never_put_in_twice(caption: str, trigger_word: str) -> None:
    once = with_trigger_word(caption, trigger_word)
    assert trigger_word.casefold() in once.casefold()
    assert with_trigger_word(once, trigger_word) == once
