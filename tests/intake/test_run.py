"""A whole upload: what is taken, what is said, and what is left on disk."""

import asyncio
import zipfile
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import pytest

from api.domain.intake import Intake, NoUsableImagesError
from api.errors import InputError
from api.intake.run import CAPTION_BYTES, run_intake
from tests.intake.pictures import LIMITS, Upload, encoded, png_of_size, scene


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    return Upload(tmp_path / "incoming")


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return tmp_path / "work"


def _picture(seed: int = 0) -> bytes:
    return encoded(scene(seed), "PNG")


def _zip_of(entries: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _codes(intake: Intake) -> dict[str, str | None]:
    return {entry.filename: entry.code for entry in intake.report}


async def test_every_file_of_a_mixed_upload_gets_its_verdict(upload: Upload, workdir: Path) -> None:
    truncated = encoded(scene(3), "JPEG")[:700]
    files = {
        "good.png": _picture(1),
        "good.txt": b"a cat\non a mat",
        "bare.jpg": encoded(scene(2), "JPEG"),
        "again.webp": encoded(scene(1), "WEBP", lossless=True),
        "cut.jpg": truncated,
        "cut.txt": b"half a cat",
        "text.png": b"hello",
        "dot.png": encoded(scene(4, (8, 8)), "PNG"),
        "bomb.png": png_of_size(50_000, 50_000),
        "../up.png": _picture(5),
        "clip.gif": b"GIF89a",
        "lonely.txt": b"nobody",
        "bare.txt": b" ",
        "BARE.TXT": b"late",
        ".DS_Store": b"x",
    }
    for name, data in files.items():
        upload.add(name, data)
    intake = await run_intake(upload.files, LIMITS, workdir)
    assert [(i.original_name, i.caption) for i in intake.images] == [("good.png", "a cat on a mat"), ("bare.jpg", None)]
    assert _codes(intake) == {
        "good.png": None,
        "good.txt": None,
        "bare.jpg": None,
        "again.webp": "duplicate",
        "cut.jpg": "corrupt_image",
        "cut.txt": "caption_without_image",
        "text.png": "not_an_image",
        "dot.png": "too_small",
        "bomb.png": "too_many_pixels",
        "../up.png": "unsafe_name",
        "clip.gif": "unsupported_type",
        "lonely.txt": "caption_without_image",
        "bare.txt": "empty_caption",
        "BARE.TXT": "duplicate_caption",
    }
    assert all(entry.reason for entry in intake.report if entry.status == "refused")
    assert {entry.duplicate_of for entry in intake.report} == {None, "good.png"}


async def test_only_the_pictures_taken_are_left_on_disk(upload: Upload, workdir: Path) -> None:
    for name in ("a.png", "same.png"):
        upload.add(name, _picture(1))
    upload.add("b.png", _picture(2))
    upload.add("b.txt", b"text")
    upload.add("bad.png", b"no")
    intake = await run_intake(upload.files, LIMITS, workdir)
    left = {path for path in workdir.parent.rglob("*") if path.is_file()}
    assert left == {image.path for image in intake.images} == {workdir / "images/a.png", workdir / "images/b.png"}


async def test_a_zip_gives_what_its_files_would_have_given(upload: Upload, workdir: Path) -> None:
    entries = {"set/a.png": _picture(1), "set/a.txt": b"a cat", "other/a.png": _picture(2), "../x.png": _picture(3)}
    upload.add("Set.ZIP", _zip_of(entries))
    intake = await run_intake(upload.files, LIMITS, workdir)
    assert [(i.original_name, i.stem, i.caption) for i in intake.images] == [
        ("set/a.png", "a", "a cat"),
        ("other/a.png", "a-2", None),
    ]
    assert _codes(intake)["../x.png"] == "unsafe_name"
    assert not upload.files[0].path.exists()


async def test_a_zip_beside_other_files_is_refused(upload: Upload, workdir: Path) -> None:
    upload.add("a.png", _picture())
    upload.add("set.zip", _zip_of({"b.png": _picture(1)}))
    with pytest.raises(InputError) as caught:
        await run_intake(upload.files, LIMITS, workdir)
    assert (caught.value.code, caught.value.value) == ("zip_not_alone", "set.zip")


@pytest.mark.parametrize(
    "files", [{}, {"a.txt": b"text"}, {"a.png": b"no"}, {"set.zip": _zip_of({})}], ids=["none", "text", "bad", "zip"]
)
async def test_an_upload_without_one_usable_picture_is_refused_with_its_report(
    upload: Upload, workdir: Path, files: dict[str, bytes]
) -> None:
    for name, data in files.items():
        upload.add(name, data)
    with pytest.raises(NoUsableImagesError) as caught:
        await run_intake(upload.files, LIMITS, workdir)
    assert caught.value.code == "no_usable_images"
    assert [entry.filename for entry in caught.value.report] == [name for name in files if name != "set.zip"]
    assert not [path for path in workdir.rglob("*") if path.is_file()]


async def test_a_caption_of_unreasonable_length_is_refused(upload: Upload, workdir: Path) -> None:
    upload.add("a.png", _picture())
    upload.add("a.txt", b"x" * (CAPTION_BYTES + 1))
    intake = await run_intake(upload.files, LIMITS, workdir)
    assert _codes(intake)["a.txt"] == "file_too_large"
    assert intake.images[0].caption is None


async def test_the_same_upload_gives_the_same_intake(tmp_path: Path) -> None:
    """Two threads decode, and the first of equal pictures must be the first in order, not in time."""
    outcomes = []
    for attempt in ("one", "two"):
        upload = Upload(tmp_path / attempt)
        for number in range(40):
            upload.add(f"{number}.png", _picture(number % 20))
        intake = await run_intake(upload.files, LIMITS, tmp_path / f"work-{attempt}")
        outcomes.append(([replace(i, path=Path(i.path.name)) for i in intake.images], intake.report))
    assert outcomes[0] == outcomes[1]
    assert [i.original_name for i in outcomes[0][0]] == [f"{number}.png" for number in range(20)]


async def test_progress_counts_every_picture_once(upload: Upload, workdir: Path) -> None:
    for number in range(5):
        upload.add(f"{number}.png", _picture(number))
    seen: list[tuple[int, int]] = []
    await run_intake(upload.files, LIMITS, workdir, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]


async def test_a_cancelled_intake_writes_nothing_more(upload: Upload, workdir: Path) -> None:
    for number in range(50):
        upload.add(f"{number}.png", _picture(number))
    reached = asyncio.Event()
    task = asyncio.create_task(run_intake(upload.files, LIMITS, workdir, lambda done, total: reached.set()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = sum(file.path.exists() for file in upload.files)
    assert 0 < left < 50
    assert len(list((workdir / "images").iterdir())) == 50 - left


async def test_a_report_is_plain_data(upload: Upload, workdir: Path) -> None:
    upload.add("a.png", _picture())
    intake = await run_intake(upload.files, LIMITS, workdir)
    assert asdict(intake.report[0]) == {
        "filename": "a.png",
        "status": "taken",
        "code": None,
        "reason": "",
        "duplicate_of": None,
    }
