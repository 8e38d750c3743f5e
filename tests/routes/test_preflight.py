"""`/api/datasets/{id}/preflight`: what is said about a dataset before a training, and what a start makes of it."""

import asyncio
import time
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from PIL import Image, ImageFilter
from sqlmodel import col

from api.domain.measurement import Measured
from api.intake.measure import measure_file
from api.models import DatasetImage, ImageMeasurement
from api.services import measuring
from api.services import preflight as preflights
from api.settings import Settings
from tests.intake.pictures import encoded, photo
from tests.service import NOBODY, Service, assert_problem, serving, with_values
from tests.waiting import until, until_async

TRAIN = "/api/training/flux"


async def preflight(service: Service, dataset_id: str, **asked: Any) -> dict[str, Any]:
    response = await service.client.get(f"/api/datasets/{dataset_id}/preflight", params=asked)
    assert response.status_code == 200, response.text
    return dict(response.json())


def codes(about: dict[str, Any]) -> set[str]:
    return {verdict["code"] for verdict in about["verdicts"]}


async def uploaded(service: Service, files: dict[str, bytes], **fields: str) -> str:
    response = await service.upload(files, name="me", **fields)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_every_picture_is_told_its_bucket_its_frame_and_what_is_wrong_with_it(any_service: Service) -> None:
    sharp, other = photo(1, (600, 400)), photo(2, (350, 550))
    files = {
        "1.jpg": encoded(sharp, "JPEG", quality=90),
        "1.txt": b"ohwx at a lake",
        "2.png": encoded(sharp.resize((540, 360)), "PNG"),
        "2.txt": b"ohwx " + b"in a very long story " * 20,
        "3.png": encoded(other.filter(ImageFilter.GaussianBlur(6)), "PNG"),
        "4.png": encoded(photo(3, (150, 450)).point(lambda value: value // 5), "PNG"),
        "4.txt": b"a watermark",
    }
    dataset_id = await uploaded(any_service, files, trigger_word="ohwx")

    found = await preflight(any_service, dataset_id, resolution=512)

    assert (found["ready"], found["unmeasured"], found["base_model"]) == (True, 0, "flux-dev")
    first, second, third, fourth = found["images"]
    assert first["bucket"] == {"width": 640, "height": 448}
    assert (first["crop"], first["cut_away"]) == ({"left": 14, "top": 0, "right": 586, "bottom": 400}, 0.0476)
    assert (codes(first), first["near_duplicate_of"]) == ({"upscaled"}, None)
    assert codes(second) == {"upscaled", "near_duplicate", "caption_too_long"}
    assert second["near_duplicate_of"] == "1.jpg"
    assert codes(third) == {"upscaled", "blurry", "caption_missing"}
    assert third["caption"] == "ohwx"
    assert codes(fourth) >= {"tiny", "extreme_aspect", "too_dark", "caption_names_overlay"}
    assert fourth["caption"] == "ohwx, a watermark"
    assert codes(found) == {"too_few_images"}
    assert found["counts"] == {
        "error": 0,
        "warning": sum(v["level"] == "warning" for v in all_verdicts(found)),
        "advice": sum(v["level"] == "advice" for v in all_verdicts(found)),
    }


def all_verdicts(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [*found["verdicts"], *(verdict for image in found["images"] for verdict in image["verdicts"])]


async def test_the_report_is_for_the_choices_that_are_asked_for(service: Service) -> None:
    sizes = [(800, 800), (810, 790), (1200, 800)]
    dataset_id = await uploaded(service, {f"{n}.png": encoded(photo(n, size), "PNG") for n, size in enumerate(sizes)})

    found = await preflight(service, dataset_id, resolution=512, batch_size=2, gradient_accumulation_steps=2)

    assert found["buckets"] == [{"width": 512, "height": 512, "images": 2}, {"width": 640, "height": 448, "images": 1}]
    assert (found["repeats_needed"], found["repeats"]) == (3, 3)
    assert not any("upscaled" in codes(image) for image in found["images"])
    assert "few_images" not in codes(await preflight(service, dataset_id, subject="product"))
    assert_problem(
        await service.client.get(f"/api/datasets/{dataset_id}/preflight?base_model=sdxl"), 422, "base_model_unknown"
    )


async def test_pictures_are_measured_once_whatever_dataset_they_are_in(service: Service) -> None:
    files = {"1.png": encoded(photo(1), "PNG"), "2.png": encoded(photo(2), "PNG")}
    first, second = await uploaded(service, files), await uploaded(service, files)
    before = await measurements(service)
    for path in await stored(service, second):
        zeros = bytes(path.stat().st_size)
        path.unlink()
        path.write_bytes(zeros)

    for dataset_id in (first, second):
        assert (await preflight(service, dataset_id))["ready"]  # the bytes were known, and are not read again
    assert await measurements(service) == before
    assert len(before) == 2


async def test_a_report_and_its_sheet_that_are_asked_for_together_measure_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = await uploaded(service, {f"{n}.png": encoded(photo(n), "PNG") for n in range(8)})
    await forget_measurements(service)
    looked_at: list[Path] = []

    def measure(path: Path) -> Measured:
        looked_at.append(path)
        return measure_file(path)

    monkeypatch.setattr(measuring, "measure_file", measure)
    sheet = service.client.get(f"/api/datasets/{dataset_id}/preflight.png")

    await asyncio.gather(preflight(service, dataset_id), sheet)

    assert len(looked_at) == len(set(looked_at)) == 8


async def test_a_picture_that_was_lost_after_it_was_measured_is_told(any_service: Service) -> None:
    dataset_id = await uploaded(any_service, {f"{n}.png": encoded(photo(n), "PNG") for n in range(3)})
    gone, short, _ = await keys(any_service, dataset_id)
    storage = any_service.resources.storage
    await storage.delete(gone)
    await storage.delete(short)
    await storage.put_file(short, Path(__file__))

    found = await preflight(any_service, dataset_id)

    assert [codes(image) & {"file_missing", "file_damaged"} for image in found["images"]] == [
        {"file_missing"},
        {"file_damaged"},
        set(),
    ]
    assert not found["ready"]


@pytest.mark.parametrize("measured", [True, False])
async def test_a_picture_that_is_gone_or_has_changed_is_an_error_and_no_training_starts(
    service: Service, measured: bool
) -> None:
    files = {f"{n}.png": encoded(photo(n), "PNG") for n in range(3)}
    dataset_id = await uploaded(service, files)
    if not measured:
        await forget_measurements(service)
    gone, changed, _ = await stored(service, dataset_id)
    gone.unlink()
    changed.chmod(0o644)
    changed.write_bytes(files["2.png"])
    await service.pulse("flux-dev")
    before = await service.traces()

    found = await preflight(service, dataset_id)
    refused = await service.client.post(TRAIN, json={"dataset_id": dataset_id})

    assert not found["ready"]
    assert [codes(image) & {"file_missing", "file_damaged"} for image in found["images"]] == [
        {"file_missing"},
        {"file_damaged"},
        set(),
    ]
    problem = assert_problem(refused, 422, "preflight_failed")
    assert [(each["loc"], each["type"]) for each in problem["errors"]] == [
        (["body", "dataset_id", "0.png"], "file_missing"),
        (["body", "dataset_id", "1.png"], "file_damaged"),
    ]
    assert dataset_id in problem["hint"]
    after = await service.traces()
    assert {table for table in after if after[table] != before[table]} <= {"image_measurement"}


async def test_a_training_keeps_what_its_preflight_found(any_service: Service) -> None:
    files = {f"{n}.png": encoded(photo(n, (512, 512)), "PNG") for n in range(2)}
    files["blurred.png"] = encoded(photo(5, (512, 512)).filter(ImageFilter.GaussianBlur(5)), "PNG")
    dataset_id = await uploaded(any_service, files, trigger_word="ohwx")
    await forget_measurements(any_service)  # as of pictures that were uploaded before there was a preflight

    started = await any_service.training(dataset_id=dataset_id, resolution=512, batch_size=2)

    kept = (await any_service.client.get(f"/api/training/{started['id']}")).json()["preflight"]
    assert kept == {
        "images": 3,
        "buckets": [{"width": 512, "height": 512, "images": 3}],
        "repeats": 1,
        "unmeasured": 0,
        "errors": {},
        "warnings": {"too_few_images": 1, "caption_missing": 3, "blurry": 1},
        "advice": {},
    }


async def test_a_start_does_not_wait_for_ever_for_pictures_that_were_never_measured(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = (await service.dataset(pictures=3))["id"]
    await forget_measurements(service)
    monkeypatch.setattr(preflights, "START_PATIENCE_SECONDS", 0.0)

    started = await service.training(dataset_id=dataset_id)

    kept = (await service.client.get(f"/api/training/{started['id']}")).json()["preflight"]
    assert kept["unmeasured"] > 0
    assert kept["advice"]["not_all_measured"] == 1
    assert (await preflight(service, dataset_id))["unmeasured"] == 0


async def test_what_was_measured_before_a_request_was_cancelled_is_kept(service: Service) -> None:
    dataset_id = await uploaded(service, {f"{n}.png": encoded(photo(n, (700, 700)), "PNG") for n in range(12)})
    await forget_measurements(service)

    asking = asyncio.create_task(preflight(service, dataset_id))
    await until_async(lambda: measurements(service))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    before = await measurements(service)
    found = await preflight(service, dataset_id)

    assert 0 < len(before) < 12
    assert found["unmeasured"] == 0
    assert len(await measurements(service)) == 12
    await until(lambda: not [*(service.settings.masuka_data_dir / "tmp").rglob("*.*")])


async def test_the_service_answers_while_pictures_are_measured(service: Service) -> None:
    dataset_id = await uploaded(service, {f"{n}.jpg": encoded(photo(n, (2000, 1500)), "JPEG") for n in range(3)})
    await forget_measurements(service)
    asking = asyncio.create_task(preflight(service, dataset_id))
    began = time.monotonic()
    slowest, answers = 0.0, 0
    while not asking.done():
        started = time.monotonic()
        assert (await service.client.get("/health")).status_code == 200
        slowest, answers = max(slowest, time.monotonic() - started), answers + 1
        await asyncio.sleep(0.01)

    assert (await asking)["unmeasured"] == 0
    assert answers > 10
    assert slowest < (time.monotonic() - began) / 2


async def test_two_reports_at_once_measure_the_same(any_service: Service) -> None:
    dataset_id = await uploaded(any_service, {f"{n}.png": encoded(photo(n), "PNG") for n in range(6)})
    await forget_measurements(any_service)

    both = await asyncio.gather(*(preflight(any_service, dataset_id) for _ in range(2)))

    assert both[0] == both[1]
    assert len(await measurements(any_service)) == 6


async def test_the_contact_sheet_shows_every_picture_its_frame_and_its_verdicts(any_service: Service) -> None:
    files = {f"{n}.png": encoded(photo(n, (600, 400)), "PNG") for n in range(5)}
    files["narrow.png"] = encoded(Image.new("RGB", (32, 900), "red"), "PNG")
    dataset_id = await uploaded(any_service, files)

    response = await any_service.client.get(f"/api/datasets/{dataset_id}/preflight.png?resolution=512")

    assert response.headers["content-type"] == "image/png"
    assert dataset_id in response.headers["content-disposition"]
    with Image.open(BytesIO(response.content), formats=("PNG",)) as sheet:
        sheet.load()
        colours = Counter({colour: count for count, colour in sheet.getcolors(1 << 24) or () if type(colour) is tuple})
    assert sheet.width > 4 * 224
    assert sheet.height > 2 * 224
    assert colours[0xEF, 0x6C, 0x00] > 1000  # the edge of a warning
    red = {colour[0] // 10: count for colour, count in colours.most_common() if max(colour[1:]) < 4}
    assert red[25] > 50, "the narrow picture"
    assert red[7] > 500, "and what is cut away of it, in the dark"


async def test_a_report_needs_a_dataset_and_sensible_choices(service: Service) -> None:
    for ending in ("", ".png"):
        path = f"/api/datasets/{NOBODY}/preflight{ending}"
        assert_problem(await service.client.get(path), 404, "dataset_not_found")
        for choice in ("resolution=100", "resolution=x", "batch_size=0", "subject=dog", "steps=0", "trigger_word=%00"):
            assert_problem(await service.client.get(f"{path}?{choice}"), 422, "validation_failed")


async def test_without_an_engine_captions_are_not_counted(settings: Settings, valkey_url: str, tmp_path: Path) -> None:
    bare = with_values(settings, redis_url=valkey_url, masuka_engines_dir=tmp_path / "none")
    async with serving(bare) as service:
        found = await preflight(service, (await service.dataset())["id"])
    assert found["images"][0]["caption_tokens"] is None
    assert found["estimate"]["disk_gb"] is None


async def measurements(service: Service) -> list[str]:
    async with service.resources.sessions() as session:
        return sorted(await session.scalars(sa.select(col(ImageMeasurement.sha256))))


async def forget_measurements(service: Service) -> None:
    async with service.resources.sessions.begin() as session:
        await session.execute(sa.delete(ImageMeasurement))


async def keys(service: Service, dataset_id: str) -> list[str]:
    """Of a dataset's pictures, in their order."""
    async with service.resources.sessions() as session:
        query = sa.select(col(DatasetImage.key)).where(col(DatasetImage.dataset_id) == UUID(dataset_id))
        return list(await session.scalars(query.order_by(col(DatasetImage.position))))


async def stored(service: Service, dataset_id: str) -> list[Path]:
    """The files of a dataset's pictures, in their order."""
    paths = [service.resources.storage.local_path(key) for key in await keys(service, dataset_id)]
    return [path for path in paths if path is not None]
