"""CLIP's tokens by a small vocabulary; tests/engines/simpletuner compares the counts with the trainer's tokenizer."""

import pytest

from api.domain.clip_tokens import ClipTokens

MERGES = "#version: 0.2\nc a\nca t</w>\nd o\ndo g\ndog s</w>\n' s</w>\n"


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("", 0),
        ("cat", 1),
        ("CAT  cat", 2),
        ("catt", 3),
        ("dogs", 1),
        ("dog", 2),
        ("cat's cat’s", 4),
        ("'sun", 3),
        ("2024", 4),
        ("cat, cat!", 4),
        ("cat &amp; cat", 3),
        ("<b> &amp;", 8),
        ("e\u0301", 2),
        ("\u3000cat\n", 1),
        ("_", 1),
    ],
)
def test_words_are_merged_as_far_as_the_vocabulary_goes(caption: str, tokens: int) -> None:
    assert ClipTokens.of(MERGES).count(caption, tidied=True) == 2 + tokens


@pytest.mark.parametrize(("caption", "tokens"), [("cat’s", 5), ("cat &amp; cat", 7), ("cat's", 2)])
def test_a_trainer_that_tidies_nothing_makes_more_of_typographic_signs(caption: str, tokens: int) -> None:
    clip = ClipTokens.of(MERGES)
    assert clip.count(caption, tidied=False) == clip.most(caption) == 2 + tokens
