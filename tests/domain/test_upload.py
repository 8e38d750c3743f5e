"""Names of uploaded files: never a path, always a kind, a partner by stem, and a safe stem."""

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.upload import FileKind, UploadLimits, file_kind, pair_key, relative_path, shown, unique_stems
from api.errors import InputError
from api.settings import Settings


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", FileKind.IMAGE),
        ("A.JPEG", FileKind.IMAGE),
        ("dir/sub\\b.WebP", FileKind.IMAGE),
        ("a.b.jpg", FileKind.IMAGE),
        ("a.TXT", FileKind.CAPTION),
        ("set.Zip", FileKind.ARCHIVE),
        (".DS_Store", FileKind.CLUTTER),
        ("pics/Thumbs.db", FileKind.CLUTTER),
        ("pics/._a.png", FileKind.CLUTTER),
        ("__MACOSX/a.png", FileKind.CLUTTER),
    ],
)
def test_a_name_says_what_a_file_is_for(name: str, kind: FileKind) -> None:
    assert file_kind(name) is kind


@pytest.mark.parametrize("name", ["a.gif", "IMG_1.HEIC", "noext", ".png", "a.png.exe"])
def test_other_types_are_refused_and_the_hint_names_those_that_are_taken(name: str) -> None:
    with pytest.raises(InputError) as caught:
        file_kind(name)
    assert caught.value.code == "unsupported_type"
    assert "WebP" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "x/../../a.png",
        "..\\a.png",
        "/etc/a.png",
        "\\\\host\\share\\a.png",
        "C:\\a.png",
        "c:a.png",
        "a\x00.png",
        "a\n.png",
        "",
        ".",
        "..",
        "a" * 1100 + ".png",
    ],
)
def test_names_that_could_leave_the_folder_are_unsafe(name: str) -> None:
    with pytest.raises(InputError) as caught:
        file_kind(name)
    assert caught.value.code == "unsafe_name"


@given(st.text())
def test_any_name_is_either_refused_or_stays_below_its_folder(name: str) -> None:
    if _is_safe(name):
        path = relative_path(name)
        assert path.name
        assert ".." not in path.parts
        assert PurePosixPath("/root").joinpath(path).is_relative_to("/root")


def test_a_picture_and_its_caption_pair_whatever_the_case_of_either() -> None:
    assert pair_key("Set/IMG_1.JPG") == pair_key("set/img_1.txt")
    assert pair_key("Ko\u0308ln.png") == pair_key("Köln.txt")  # macOS writes decomposed names


def test_a_caption_in_another_folder_is_not_a_partner() -> None:
    assert pair_key("a/1.png") != pair_key("b/1.txt")


def test_stems_are_readable_ascii_and_unique_in_any_case() -> None:
    names = ["Köln 1.png", "a/x.png", "b/X.png", "x-2.png", "写真.png", "x.jpg"]
    assert unique_stems(names) == ["Koln-1", "x", "X-2", "x-2-2", "image", "x-3"]


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).map(lambda s: "n" + s + ".png")))
def test_stems_are_unique_and_fit_for_every_store(names: list[str]) -> None:
    safe = [name for name in names if _is_safe(name)]
    stems = unique_stems(safe)
    assert len({stem.lower() for stem in stems}) == len(safe)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", stem) for stem in stems)


def _is_safe(name: str) -> bool:
    try:
        relative_path(name)
    except InputError as refusal:
        return refusal.code != "unsafe_name"
    return True


def test_five_thousand_equal_names_are_told_apart_at_once() -> None:
    assert unique_stems(["a.png"] * 5000)[-1] == "a-5000"


def test_a_shown_name_has_no_controls_and_a_bounded_length() -> None:
    assert shown("a\x00\x1b[31m.png") == "a\ufffd\ufffd[31m.png"
    assert len(shown("x" * 5000)) == 255


def test_limits_come_from_the_settings_in_bytes(settings: Settings) -> None:
    limits = UploadLimits.of(settings)
    assert limits.file_bytes == 100 * 1024 * 1024
    assert limits.total_bytes == 4096 * 1024 * 1024
    assert (limits.files, limits.image_pixels, limits.min_side) == (5000, 100_000_000, 32)
