"""Metadata leaves a picture file, and not one pixel changes."""

from functools import cache
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from api.intake.metadata import orientation, strip_metadata
from tests.intake.pictures import encoded, exif, scene

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta>SecretPhoneMaker</x:xmpmeta>"


def _text_chunk() -> PngInfo:
    info = PngInfo()
    info.add_text("prompt", "SecretPhoneMaker")
    return info


@cache
def _files() -> dict[str, bytes]:
    marks = {"exif": exif(6), "icc_profile": PROFILE}
    return {
        "jpeg": encoded(scene(), "JPEG", comment=b"SecretPhoneMaker", xmp=XMP, **marks),
        "progressive jpeg": encoded(scene(), "JPEG", progressive=True, **marks),
        "jpeg with restarts": encoded(scene(), "JPEG", restart_marker_blocks=1, **marks),
        "cmyk jpeg": encoded(scene().convert("CMYK"), "JPEG", exif=exif(6), icc_profile=PROFILE),
        "png": encoded(scene(), "PNG", pnginfo=_text_chunk(), **marks),
        "palette png": encoded(scene().quantize(16), "PNG", transparency=3, **marks),
        "lossy webp": encoded(scene(), "WEBP", xmp=XMP, **marks),
        "lossless webp": encoded(scene(), "WEBP", lossless=True, **marks),
        "transparent webp": encoded(scene().convert("RGBA"), "WEBP", **marks),
    }


@pytest.mark.parametrize("name", _files())
def test_only_pixels_and_colours_stay(name: str) -> None:
    data = _files()[name]
    stripped = strip_metadata(data)
    assert stripped is not None
    assert b"SecretPhoneMaker" in data
    assert b"SecretPhoneMaker" not in stripped.data
    before, after = Image.open(BytesIO(data)), Image.open(BytesIO(stripped.data))
    assert (after.mode, after.tobytes()) == (before.mode, before.tobytes())
    assert after.info["icc_profile"] == PROFILE
    assert after.info.get("transparency") == before.info.get("transparency")
    assert not after.getexif()
    assert "xmp" not in after.info
    assert orientation(stripped.exif) == 6


@pytest.mark.parametrize("name", _files())
def test_what_has_no_metadata_is_not_changed(name: str) -> None:
    stripped = strip_metadata(_files()[name])
    assert stripped is not None
    assert strip_metadata(stripped.data) == stripped._replace(exif=b"")


def test_pictures_that_a_phone_appended_are_cut_off() -> None:
    first = encoded(scene(1), "JPEG")
    both = encoded(scene(1), "MPO", save_all=True, append_images=[scene(2)])
    assert Image.open(BytesIO(both)).n_frames == 2  # type: ignore[attr-defined]
    stripped = strip_metadata(both + b"PK\x03\x04 a zip hidden in a photo")
    assert stripped is not None
    assert stripped.data == first


def test_a_jpeg_without_its_end_mark_keeps_all_its_pixels() -> None:
    data = encoded(scene(), "JPEG")[:-2]
    stripped = strip_metadata(data)
    assert stripped is not None
    assert stripped.data == data


@pytest.mark.parametrize("data", [b"", b"GIF89a....", b"hello", b"RIFF1234WAVE", b"\xff\xd8"])
def test_other_bytes_are_no_picture(data: bytes) -> None:
    assert strip_metadata(data) is None


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read_in_both_byte_orders(number: int, order: str) -> None:
    block = Image.Exif()
    block.endian = order
    block[0x0100] = 17
    block[0x0112] = number
    assert orientation(block.tobytes()) == number


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(number: int) -> None:
    block = Image.Exif()
    block[0x0112] = number
    assert orientation(block.tobytes()) == 1


@given(st.binary(max_size=200))
def test_damaged_exif_is_upright_or_a_real_orientation(data: bytes) -> None:
    assert orientation(b"Exif\0\0II*\0" + data) in range(1, 9)


@given(st.sampled_from(sorted(_files())), st.data())
def test_damaged_files_are_passed_through_without_an_error(name: str, choice: st.DataObject) -> None:
    data = bytearray(_files()[name])
    for _ in range(choice.draw(st.integers(1, 4))):
        data[choice.draw(st.integers(12, len(data) - 1))] = choice.draw(st.integers(0, 255))
    cut = choice.draw(st.integers(12, len(data)))
    stripped = strip_metadata(bytes(data[:cut]))
    assert stripped is None or len(stripped.data) <= cut
