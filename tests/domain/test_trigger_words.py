"""Trigger words reach the prompt once, as words."""

import pytest

from api.domain.trigger_words import with_trigger_words


@pytest.mark.parametrize(
    ("prompt", "words", "sent"),
    [
        ("a photo", ["ohwx"], "ohwx, a photo"),
        ("a photo of ohwx", ["ohwx"], "a photo of ohwx"),
        ("a photo of OHWX, smiling", ["ohwx"], "a photo of OHWX, smiling"),
        ("ohwxy", ["ohwx"], "ohwx, ohwxy"),
        ("my_ohwx", ["ohwx"], "ohwx, my_ohwx"),
        ("(ohwx:1.2)", ["ohwx"], "(ohwx:1.2)"),
        ("a photo", ["ohwx man", "sty1e"], "ohwx man, sty1e, a photo"),
        ("an ohwx  man", ["ohwx man"], "an ohwx  man"),
        ("a photo", ["ohwx", None, "", "  ", "ohwx"], "ohwx, a photo"),
        ("a photo", ["ohwx man", "ohwx"], "ohwx man, a photo"),
        ("", ["ohwx"], "ohwx"),
        ("", [], ""),
        (" a  photo ", [], " a  photo "),
        ("a c++ photo", ["c++"], "a c++ photo"),
        ("a photo", ["(.*"], "(.*, a photo"),
        ("ein Bär", ["BÄR"], "ein Bär"),
    ],
)
def test_a_word_is_put_in_front_unless_it_is_there(prompt: str, words: list[str | None], sent: str) -> None:
    assert with_trigger_words(prompt, words) == sent
