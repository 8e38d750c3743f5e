"""One picture: what is refused and why, and what is stored for the trainer."""

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.domain.intake import Candidate, TakenImage
from api.domain.upload import IncomingFile, UploadLimits
from api.errors import InputError
from api.intake.images import take_image
from tests.intake.pictures import LIMITS, encoded, exif, png_of_size, scene


def _take(folder: Path, data: bytes, limits: UploadLimits = LIMITS) -> TakenImage:
    source = folder / "source"
    source.write_bytes(data)
    return take_image(Candidate(IncomingFile("photo.any", source, len(data)), "photo", "a cat"), folder, limits)


def _refusal(folder: Path, data: bytes, limits: UploadLimits = LIMITS) -> InputError:
    with pytest.raises(InputError) as caught:
        _take(folder, data, limits)
    assert [path.name for path in folder.iterdir()] == ["source"]
    return caught.value


def _stored(image: TakenImage) -> Image.Image:
    opened = Image.open(image.path)
    opened.load()
    return opened


@pytest.mark.parametrize(
    ("file_format", "suffix", "options"),
    [("PNG", ".png", {}), ("JPEG", ".jpg", {"quality": 80}), ("WEBP", ".webp", {"quality": 80})],
)
def test_a_plain_picture_is_stored_byte_for_byte(tmp_path: Path, file_format, suffix, options) -> None:
    data = encoded(scene(), file_format, **options)
    image = _take(tmp_path, data)
    assert image.path == tmp_path / f"photo{suffix}"
    assert image.path.read_bytes() == data
    assert (image.width, image.height, image.format, image.size) == (64, 48, file_format.lower(), len(data))
    assert (image.original_name, image.caption) == ("photo.any", "a cat")


def test_a_grey_picture_stays_grey(tmp_path: Path) -> None:
    assert _stored(_take(tmp_path, encoded(scene().convert("L"), "JPEG"))).mode == "L"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("number", range(2, 9))
def test_a_turned_picture_is_stored_upright(tmp_path: Path, file_format: str, number: int) -> None:
    options = {"quality": 95} if file_format == "JPEG" else {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(scene(), file_format, exif=exif(number), **options)
    image = _take(tmp_path, data)
    back = {6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}
    back |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    back |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    expected = np.asarray(scene().transpose(back[number]), dtype=int)
    stored = _stored(image)
    assert np.abs(np.asarray(stored, dtype=int) - expected).mean() < (3 if file_format == "JPEG" else 0.001)
    assert (image.width, image.height) == stored.size
    assert not stored.getexif()
    assert b"SecretPhoneMaker" not in image.path.read_bytes()


def test_a_picture_that_lies_level_loses_its_exif_too(tmp_path: Path) -> None:
    image = _take(tmp_path, encoded(scene(), "JPEG", exif=exif(1), quality=80))
    assert image.path.read_bytes() == encoded(scene(), "JPEG", quality=80)


def test_a_burst_or_depth_photo_of_a_phone_is_taken_as_its_first_picture(tmp_path: Path) -> None:
    image = _take(tmp_path, encoded(scene(1), "MPO", save_all=True, append_images=[scene(2)]))
    assert image.path.read_bytes() == encoded(scene(1), "JPEG")


def test_transparent_ground_becomes_white_whatever_colour_lies_under_it(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    rgba.paste((0, 0, 255, 255), (0, 0, 32, 64))
    stored = _stored(_take(tmp_path, encoded(rgba, "PNG")))
    assert stored.mode == "RGB"
    assert stored.getpixel((5, 5)) == (0, 0, 255)
    assert stored.getpixel((60, 5)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None, :].repeat(64, axis=0)
    stored = _stored(_take(tmp_path, encoded(Image.fromarray(ramp), "PNG")))
    assert stored.mode == "L"
    assert stored.getpixel((0, 0)) == 0
    assert 120 <= stored.getpixel((32, 0)) <= 136  # type: ignore[operator]
    assert stored.getpixel((63, 0)) == 255


@pytest.mark.parametrize("mode", ["1", "P", "LA"])
def test_other_kinds_of_png_become_plain_colour(tmp_path: Path, mode: str) -> None:
    assert _stored(_take(tmp_path, encoded(scene().convert(mode), "PNG"))).mode == "RGB"


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    image = _take(tmp_path, encoded(scene().convert("CMYK"), "JPEG", quality=95))
    assert image.format == "jpeg"
    stored = _stored(image)
    assert stored.mode == "RGB"
    assert np.abs(np.asarray(stored, dtype=int) - np.asarray(scene(), dtype=int)).mean() < 6


def test_one_picture_has_one_fingerprint_in_every_lossless_file(tmp_path: Path) -> None:
    files = [
        encoded(scene(), "PNG"),
        encoded(scene(), "PNG", compress_level=0),
        encoded(scene().convert("RGBA"), "PNG"),
        encoded(scene(), "WEBP", lossless=True),
        encoded(scene().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif(6)),
    ]
    assert len({_take(tmp_path, data).pixels_sha256 for data in files}) == 1
    assert _take(tmp_path, encoded(scene(1), "PNG")).pixels_sha256 != _take(tmp_path, files[0]).pixels_sha256


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + b"\0" * 50, b"%PDF-1.7"])
def test_what_is_no_picture_is_refused_whatever_its_name(tmp_path: Path, data: bytes) -> None:
    assert _refusal(tmp_path, data).code == "not_an_image"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused_as_corrupt(tmp_path: Path, file_format: str, part: float) -> None:
    data = encoded(scene(), file_format)
    assert _refusal(tmp_path, data[: int(len(data) * part)]).code == "corrupt_image"


def test_a_picture_of_one_pixel_is_too_small(tmp_path: Path) -> None:
    refusal = _refusal(tmp_path, encoded(Image.new("RGB", (1, 1)), "PNG"))
    assert (refusal.code, refusal.value) == ("too_small", "1 x 1")
    assert "MASUKA_MIN_IMAGE_SIDE" in str(refusal)


def test_a_picture_of_fifty_thousand_squared_is_refused_by_its_header(tmp_path: Path) -> None:
    """Decoding it would take 7.5 GB and far longer than this test may."""
    refusal = _refusal(tmp_path, png_of_size(50_000, 50_000))
    assert (refusal.code, refusal.value) == ("too_many_pixels", "50000 x 50000")
    assert "MASUKA_MAX_IMAGE_PIXELS" in str(refusal)


def test_an_enormous_webp_is_refused_before_its_canvas_is_made(tmp_path: Path) -> None:
    data = bytearray(encoded(scene(), "WEBP", exif=exif()))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff\x3f\x00\xff\x3f\x00"
    assert _refusal(tmp_path, bytes(data)).code == "too_many_pixels"


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_an_animation_is_refused(tmp_path: Path, file_format: str) -> None:
    data = encoded(scene(1), file_format, save_all=True, append_images=[scene(2)])
    assert _refusal(tmp_path, data).code == "animated_image"


def test_a_palette_png_without_its_palette_is_corrupt(tmp_path: Path) -> None:
    data = encoded(scene().quantize(16), "PNG")
    assert _refusal(tmp_path, data.replace(b"PLTE", b"pLTE")).code == "corrupt_image"


def test_damage_of_any_kind_is_refused_or_still_a_picture(tmp_path: Path) -> None:
    """What decoders raise on damage is not documented; a thousand damaged files show what it is."""
    dice = random.Random(20261122)
    sources = [encoded(scene(), "PNG"), encoded(scene(), "JPEG", exif=exif(6)), encoded(scene(), "WEBP")]
    sources += [encoded(scene().quantize(16), "PNG"), encoded(scene().convert("RGBA"), "WEBP")]
    for _ in range(1000):
        data = bytearray(dice.choice(sources))
        for _ in range(dice.choice([1, 2, 8])):
            data[dice.randrange(len(data) if dice.random() < 0.5 else 120)] = dice.randrange(256)
        try:
            image = _take(tmp_path, bytes(data))
        except InputError:
            continue
        Image.open(BytesIO(image.path.read_bytes())).load()


def test_a_failing_disk_is_not_blamed_on_the_picture(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(encoded(scene(), "PNG"))
    with pytest.raises(FileNotFoundError):
        take_image(Candidate(IncomingFile("a.png", source, 1), "a", None), tmp_path / "gone", LIMITS)
