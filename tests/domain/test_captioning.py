import pytest

from api.domain.captioning import DEFAULT_STYLE, STYLES, CaptionerName, Overwrite, Wording, is_wanted, wording
from api.errors import InputError

FLORENCE, JOY = CaptionerName.FLORENCE_2, CaptionerName.JOYCAPTION


@pytest.mark.parametrize("captioner", CaptionerName)
def test_every_style_asks_something_and_one_is_the_usual_one(captioner: CaptionerName):
    for style, prompt in STYLES[captioner].items():
        assert wording(captioner, style=style, prompt=None, usual_style=None) == Wording(style, prompt)
    usual = wording(captioner, style=None, prompt=None, usual_style=None)
    assert usual.style == DEFAULT_STYLE[captioner]


def test_florence_is_asked_by_its_own_tasks_alone():
    assert set(STYLES[FLORENCE].values()) == {"<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>"}
    with pytest.raises(InputError, match="joycaption") as refused:
        wording(FLORENCE, style=None, prompt="Describe the coat.", usual_style=None)
    assert (refused.value.code, refused.value.value) == ("prompt_not_understood", "Describe the coat.")


def test_words_of_the_owners_own_are_asked_as_they_are():
    assert wording(JOY, style=None, prompt="Describe the coat.", usual_style="midjourney") == Wording(
        None, "Describe the coat."
    )
    with pytest.raises(InputError) as refused:
        wording(JOY, style="midjourney", prompt="Describe the coat.", usual_style=None)
    assert refused.value.code == "style_and_prompt"


def test_the_datasets_style_counts_where_the_captioner_has_it():
    assert wording(FLORENCE, style=None, prompt=None, usual_style="caption").style == "caption"
    assert wording(FLORENCE, style="caption", prompt=None, usual_style="detailed_caption").style == "caption"
    assert wording(FLORENCE, style=None, prompt=None, usual_style="my own words").style == DEFAULT_STYLE[FLORENCE]


def test_an_unknown_style_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="detailed_caption") as refused:
        wording(FLORENCE, style="midjourney", prompt=None, usual_style=None)
    assert (refused.value.code, refused.value.value) == ("style_unknown", "midjourney")


@pytest.mark.parametrize(
    ("caption", "source", "nothing", "generated", "everything"),
    [
        ("", "none", True, True, True),
        ("ohwx", "none", True, True, True),  # the trigger word, for want of a caption
        ("", "manual", True, True, True),
        ("a face", "uploaded", False, False, True),
        ("a face", "manual", False, False, True),
        ("a face", "florence-2", False, True, True),
        ("a face", "joycaption", False, True, True),
    ],
)
def test_what_people_wrote_is_kept_unless_told_otherwise(
    caption: str, source: str, nothing: bool, generated: bool, everything: bool
):
    assert [is_wanted(caption, source, each) for each in Overwrite] == [nothing, generated, everything]
