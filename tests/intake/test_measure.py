"""What is measured of a picture's pixels."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from api.domain.measurement import Measurement, near_duplicates
from api.domain.picture_verdicts import LEAST_SHARPNESS
from api.errors import InputError
from api.intake.measure import PREVIEW_SIDE, measure, measure_file
from api.settings import PROJECT_ROOT
from tests.intake.pictures import encoded, photo, scene

SIZE = (1200, 800)


def of(image: Image.Image) -> Measurement:
    return measure(image).measurement


@pytest.fixture(scope="module")
def sharp() -> Image.Image:
    return photo(1, SIZE)


def test_a_blurred_picture_is_less_sharp_at_the_size_where_the_blur_is_seen(sharp: Image.Image) -> None:
    before, after = of(sharp), of(sharp.filter(ImageFilter.GaussianBlur(3)))
    assert min(each or 0 for each in before.sharpness) > 0.6
    assert (after.sharpness_at(1024) or 0) < LEAST_SHARPNESS
    assert (after.sharpness_at(512) or 0) > (after.sharpness_at(1024) or 0)


def test_motion_in_one_direction_and_enlarging_are_blur_too(sharp: Image.Image) -> None:
    moved = sharp.filter(ImageFilter.BoxBlur((8, 0)))
    enlarged = sharp.resize((150, 100)).resize(SIZE, Image.Resampling.BICUBIC)
    for blurred in (moved, moved.transpose(Image.Transpose.ROTATE_90), enlarged):
        assert (of(blurred).sharpness_at(1024) or 0) < LEAST_SHARPNESS


def test_a_sharp_subject_before_a_blurred_background_is_sharp(sharp: Image.Image) -> None:
    portrait = sharp.filter(ImageFilter.GaussianBlur(12))
    portrait.paste(sharp.crop((400, 200, 900, 700)), (400, 200))
    assert (of(portrait).sharpness_at(1024) or 0) > 0.6


def test_of_a_plain_surface_nothing_is_said() -> None:
    assert of(Image.new("RGB", SIZE, "grey")).sharpness == (None, None)
    assert of(Image.new("L", (32, 3000), 7)).sharpness == (None, None)


def test_tones_are_those_that_a_twentieth_is_beyond() -> None:
    pixels = np.zeros((100, 100), np.uint8)
    pixels[:, 50:], pixels[:, 96:] = 100, 255
    found = of(Image.fromarray(pixels))
    assert (found.dark, found.bright) == (0, 100)


def test_copies_are_known_again_and_other_pictures_are_not(sharp: Image.Image) -> None:
    copies = [
        sharp,
        Image.open(BytesIO(encoded(sharp, "JPEG", quality=40))),
        sharp.resize((300, 200)),
        ImageEnhance.Brightness(sharp).enhance(1.15),
        sharp.crop((12, 8, *SIZE)),
        sharp.convert("L").convert("RGB"),
        sharp.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        *(photo(seed, SIZE) for seed in range(2, 6)),
    ]
    assert near_duplicates([of(each) for each in copies]) == {1: 0, 2: 0, 3: 0, 4: 0}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_stored_format_is_measured_like_its_pixels(tmp_path: Path, file_format: str, mode: str) -> None:
    image = photo(3, (2600, 1700)).convert(mode)
    path = tmp_path / "stored"
    path.write_bytes(encoded(image, file_format, quality=95))

    found = measure_file(path)

    assert near_duplicates([of(image), found.measurement]) == {1: 0}
    assert found.measurement.sharpness_at(512) == pytest.approx(of(image).sharpness_at(512), abs=0.12)
    with Image.open(BytesIO(found.preview), formats=("JPEG",)) as preview:
        assert max(preview.size) == PREVIEW_SIDE


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0nonsense", b"\x89PNG\r\n\x1a\n", b"RIFFxxxxWEBP"])
def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "stored"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        measure_file(path)
    assert caught.value.code == "corrupt_image"


def test_a_broken_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(encoded(scene(1, (900, 900)), "PNG")[:-3000])
    with pytest.raises(InputError):
        measure_file(path)


def test_a_photo_of_24_megapixels_is_measured_within_its_share_of_time_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    photo(1, (6000, 4000)).save(path, quality=92)
    command = [sys.executable, "-c", MEASURE_IN_PEACE, str(path)]
    told = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True).stdout.split()
    seconds, megabytes = float(told[0]), float(told[1])

    assert seconds < 0.6, "100 of them on 2 cores in less than 30 s"
    assert megabytes < 60, "two at once"


MEASURE_IN_PEACE = """
import resource, sys, time
from pathlib import Path
from api.intake.measure import measure_file
from tests.intake.pictures import encoded, scene
small = Path(sys.argv[1]).with_name("small.jpg")
small.write_bytes(encoded(scene(1), "JPEG"))
measure_file(small)
peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
measure_file(Path(sys.argv[1]))
print(time.process_time() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024)
"""
