"""`POST /api/inputs/`: pictures to start from, verified and kept by content."""

from io import BytesIO

import httpx
import pytest
from PIL import Image

from api.settings import Settings
from tests.service import Service, assert_problem, png, serving, with_values


async def upload(service: Service, data: bytes, name: str = "a.png") -> httpx.Response:
    return await service.client.post("/api/inputs/", files={"file": (name, data)})


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


async def kept(service: Service) -> list[Image.Image]:
    paths = sorted(path for path in service.files() if "inputs" in path.parts)
    return [Image.open(path) for path in paths]


async def test_a_picture_is_kept_once_however_often_it_comes(any_service: Service) -> None:
    first, again, other = [await upload(any_service, data) for data in (png(1), png(1), png(2))]
    assert first.status_code == 201, first.text
    assert first.json() == again.json() != other.json()
    assert (await any_service.traces())["input_image"] == 2


async def test_what_is_kept_is_pixels_and_nothing_else(service: Service) -> None:
    turned = Image.new("RGB", (64, 32), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    exif[0x010E] = "secret place"
    response = await upload(service, saved(turned, "JPEG", exif=exif), "../../x.jpg")
    assert (response.json()["width"], response.json()["height"]) == (32, 64)
    (path,) = (path for path in service.files() if "inputs" in path.parts)
    assert b"secret" not in path.read_bytes()
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 64))


async def test_transparency_is_kept_for_masks(service: Service) -> None:
    await upload(service, saved(Image.new("RGBA", (8, 8), (255, 0, 0, 7)), "WEBP", lossless=True, exact=True))
    (image,) = await kept(service)
    with image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGBA", (255, 0, 0, 7))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"%PDF-1.4", "not_an_image"),
        (b"<svg onload='x'/>", "not_an_image"),
        (png()[:200], "corrupt_image"),
    ],
)
async def test_what_is_no_picture_is_refused_and_leaves_nothing(service: Service, data: bytes, code: str) -> None:
    before = await service.traces()
    assert_problem(await upload(service, data), 422, code)
    assert await service.traces() == before


async def test_one_file_is_wanted(service: Service) -> None:
    two = [("file", ("a.png", png(1))), ("file", ("b.png", png(2)))]
    assert_problem(await service.client.post("/api/inputs/", files=two), 422, "one_file_needed")
    assert_problem(await service.client.post("/api/inputs/", data={"a": "b"}), 422, "multipart_invalid")


async def test_a_picture_has_no_more_pixels_and_bytes_than_the_settings_say(
    settings: Settings, valkey_url: str
) -> None:
    small = with_values(settings, redis_url=valkey_url, masuka_max_image_pixels=1000, masuka_max_file_mb=1)
    async with serving(small) as service:
        assert_problem(await upload(service, png()), 422, "too_many_pixels")
        assert_problem(await upload(service, bytes(2 * 1024 * 1024)), 413, "file_too_large")


async def test_the_same_key_gets_the_first_answer(service: Service) -> None:
    first, again = [
        await service.client.post(
            "/api/inputs/", files={"file": ("a.png", png())}, headers={"Idempotency-Key": "picture"}
        )
        for _ in range(2)
    ]
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
