"""The rules that decide, from what was found in each file, what is taken and what the sender is told."""

from pathlib import Path

from api.domain.intake import (
    Caption,
    CaptionSource,
    ReportEntry,
    TakenImage,
    caption_verdict,
    plan,
    refuse_duplicates,
)
from api.domain.upload import IncomingFile, Refusal
from api.errors import InputError


def _incoming(name: str) -> IncomingFile:
    return IncomingFile(name, Path("in") / name, 1)


def _taken(name: str, pixels: str, caption: str | None = None) -> TakenImage:
    return TakenImage(Path(name), name, "stem", "f" * 64, pixels, 64, 64, "png", 1, caption)


def test_two_pictures_of_one_stem_both_get_the_caption() -> None:
    captions = {"a": Caption("a.txt", "a cat")}
    candidates = plan([_incoming("a.png"), _incoming("A.jpg"), _incoming("b.png")], captions)
    assert [(c.stem, c.caption) for c in candidates] == [("a", "a cat"), ("A-2", "a cat"), ("b", None)]


def test_an_unusable_caption_leaves_the_picture_without_one() -> None:
    captions = {"a": Caption("a.txt", InputError("empty", code=Refusal.EMPTY_CAPTION))}
    assert plan([_incoming("a.png")], captions)[0].caption is None


def test_where_a_caption_came_from_is_known() -> None:
    assert _taken("a.png", "1", "a cat").caption_source is CaptionSource.UPLOADED
    assert _taken("a.png", "1").caption_source is CaptionSource.NONE


def test_the_first_of_equal_pictures_is_kept_and_the_others_name_it() -> None:
    refusal = InputError("broken", code=Refusal.CORRUPT_IMAGE)
    outcomes: list[tuple[str, TakenImage | InputError]] = [
        ("a.png", _taken("a.png", "1")),
        ("x.png", refusal),
        ("b.png", _taken("b.png", "1")),
    ]
    (_, first), (_, broken), (name, second) = refuse_duplicates(outcomes)
    assert isinstance(first, TakenImage)
    assert broken is refusal
    assert isinstance(second, InputError)
    entry = ReportEntry.refused(name, second)
    assert (entry.status, entry.code, entry.duplicate_of) == ("refused", "duplicate", "a.png")


def test_a_caption_shares_the_fate_of_its_picture() -> None:
    caption = Caption("a.txt", "a cat")
    assert caption_verdict(caption, "a", {"a"}, {"a"}).status == "taken"
    refused = caption_verdict(caption, "a", {"a"}, set())
    assert (refused.code, refused.reason) == ("caption_without_image", "Its picture was refused.")
    lonely = caption_verdict(caption, "a", set(), set())
    assert (lonely.code, lonely.reason) == ("caption_without_image", "No picture has this name.")


def test_a_caption_that_could_not_be_read_says_why_even_if_its_picture_was_taken() -> None:
    caption = Caption("a.txt", InputError("The caption is empty.", code=Refusal.EMPTY_CAPTION))
    assert caption_verdict(caption, "a", {"a"}, {"a"}).code == "empty_caption"


def test_a_report_shows_names_without_control_characters() -> None:
    assert ReportEntry.taken("a\x00.png").filename == "a\ufffd.png"
