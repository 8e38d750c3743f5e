"""What is said about a dataset, verdict by verdict."""

from dataclasses import replace
from uuid import UUID

import pytest

from api.domain.clip_tokens import ClipTokens
from api.domain.measurement import Measurement
from api.domain.preflight import Findings, Intent, Picture, Report, examine
from api.domain.set_verdicts import Subject
from api.domain.verdict import Level

GOOD = Measurement(sharpness=(0.8, 0.8), dark=20, middle=100, bright=220, layout=1, slopes=1, colours=bytes([128] * 32))
INTENT = Intent(resolution=1024, images_per_step=1, trigger_word="ohwx", name="me", subject=Subject.PERSON)


def picture(number: int = 1, *, size: tuple[int, int] = (1024, 1024), caption: str = "") -> Picture:
    text = caption or f"ohwx by lake {number}"
    return Picture(UUID(int=number), f"{number}.jpg", f"{number:064x}", *size, text, "uploaded")


def look(
    *pictures: Picture, measured: Measurement | None = None, broken: str | None = None, intent: Intent = INTENT
) -> Report:
    found = Findings(
        {
            each.sha256: replace(measured, layout=(index + 1) * 0x9E3779B97F4A7C15 % 2**64)
            for index, each in enumerate(pictures)
        }
        if measured
        else {},
        {pictures[0].sha256: broken} if broken else {},
    )
    return examine(pictures, intent, found, ClipTokens({}))


def own(report: Report) -> list[tuple[str, str]]:
    return [(each.level.value, each.code) for each in report.pictures[0].verdicts]


@pytest.mark.parametrize(
    ("size", "resolution", "said"),
    [
        ((1024, 1024), 1024, []),
        ((1000, 1000), 1024, []),
        ((900, 900), 1024, [("advice", "upscaled")]),
        ((512, 512), 1024, [("warning", "tiny")]),
        ((3000, 1000), 1024, [("warning", "extreme_aspect")]),
        ((100, 100), 64, []),
        ((160, 120), 64, [("warning", "much_cut_away")]),
        ((32, 8000), 512, [("error", "aspect_not_trainable")]),
    ],
)
def test_the_shape_of_a_picture(size: tuple[int, int], resolution: int, said: list[tuple[str, str]]) -> None:
    assert own(look(picture(size=size), measured=GOOD, intent=replace(INTENT, resolution=resolution))) == said


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        ({}, []),
        ({"sharpness": (0.3, 0.3)}, [("warning", "blurry")]),
        ({"sharpness": (0.3, 0.8)}, []),
        ({"sharpness": (None, None)}, [("advice", "no_detail")]),
        ({"bright": 60}, [("warning", "too_dark")]),
        ({"dark": 180}, [("warning", "too_bright")]),
        ({"dark": 100, "middle": 250, "bright": 255}, [("warning", "too_bright")]),
        ({"dark": 20, "middle": 250, "bright": 255}, [("advice", "half_white")]),
        ({"dark": 90, "bright": 120}, [("warning", "low_contrast")]),
    ],
)
def test_the_pixels_of_a_picture(pixels: dict[str, object], said: list[tuple[str, str]]) -> None:
    assert own(look(picture(), measured=replace(GOOD, **pixels))) == said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("caption", "source", "said"),
    [
        ("ohwx by a lake", "uploaded", []),
        ("", "none", [("warning", "caption_missing")]),
        ("ohwx", "none", [("warning", "caption_missing")]),
        ("OHWX, ", "uploaded", [("warning", "caption_empty")]),
        ("by a lake", "uploaded", [("advice", "caption_without_trigger_word")]),
        ("ohwxy by a lake", "uploaded", [("advice", "caption_without_trigger_word")]),
        ("ohwx " + "x" * 75, "uploaded", [("advice", "caption_too_long")]),
        ("ohwx " + "x" * 71, "uploaded", []),
        ("ohwx with a Watermark", "uploaded", [("advice", "caption_names_overlay")]),
    ],
)
def test_the_caption_of_a_picture(caption: str, source: str, said: list[tuple[str, str]]) -> None:
    one = replace(picture(), caption=caption, caption_source=source)
    assert own(look(one, measured=GOOD)) == said


def test_the_caption_is_shown_as_it_is_trained_on() -> None:
    shown = [each.caption for each in look(picture(caption="by a lake"), replace(picture(2), caption="")).pictures]
    assert shown == ["ohwx, by a lake", "ohwx"]
    nameless = replace(INTENT, trigger_word=None)
    assert look(replace(picture(), caption=""), intent=nameless).pictures[0].caption == "me"


@pytest.mark.parametrize(
    ("pictures", "subject", "trigger_word", "said"),
    [
        (25, Subject.PERSON, "ohwx", []),
        (2, Subject.PERSON, "ohwx", [("warning", "too_few_images")]),
        (10, Subject.PERSON, None, [("advice", "few_images"), ("advice", "no_trigger_word")]),
        (31, Subject.PERSON, "ohwx", [("advice", "many_images")]),
        (31, Subject.STYLE, None, []),
        (31, Subject.PRODUCT, "ohwx", []),
        (0, Subject.PERSON, "ohwx", [("error", "no_images")]),
    ],
)
def test_the_size_of_a_set(
    pictures: int, subject: Subject, trigger_word: str | None, said: list[tuple[str, str]]
) -> None:
    intent = replace(INTENT, subject=subject, trigger_word=trigger_word)
    report = look(*(picture(number) for number in range(pictures)), measured=GOOD, intent=intent)
    assert [(each.level.value, each.code) for each in report.verdicts] == said


def test_a_single_picture_is_told_in_the_singular() -> None:
    assert look(picture(), measured=GOOD).verdicts[0].message == "There is 1 picture; 20 to 30 are usual for a person."


def test_captions_that_are_all_the_same_are_told() -> None:
    report = look(*(picture(number, caption="ohwx, a photo") for number in range(20)), measured=GOOD)
    assert [each.code for each in report.verdicts] == ["same_captions"]


def test_pictures_that_were_not_looked_at_are_counted_and_broken_ones_are_errors() -> None:
    report = look(picture(1), picture(2), broken="file_missing")
    assert (report.unmeasured, own(report)) == (1, [("error", "file_missing")])
    assert "not_all_measured" in [each.code for each in report.verdicts]
    assert [(name, each.code) for name, each in report.of_level(Level.ERROR)] == [("1.jpg", "file_missing")]


def test_buckets_and_repeats_are_those_of_the_whole_set() -> None:
    report = look(picture(1), picture(2), picture(3, size=(1200, 800)), intent=replace(INTENT, images_per_step=4))
    assert [(each.width, each.height, each.images) for each in report.buckets] == [(1024, 1024, 2), (1280, 832, 1)]
    assert (report.repeats_needed, report.repeats) == (3, 3)
    assert look(picture(1), picture(2), intent=replace(INTENT, images_per_step=4)).repeats_needed == 1


def test_a_summary_counts_what_was_said() -> None:
    summary = look(picture(1), replace(picture(2), caption=""), measured=GOOD).summary()
    assert summary == {
        "images": 2,
        "buckets": [{"width": 1024, "height": 1024, "images": 2}],
        "repeats": 0,
        "unmeasured": 0,
        "errors": {},
        "warnings": {"too_few_images": 1, "caption_empty": 1},
        "advice": {},
    }
