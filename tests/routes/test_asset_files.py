"""`/api/assets/{id}/file` and `/thumbnail`: the bytes of a picture, in the form that is wished for."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from api.scratch import scratch_root
from tests.finished import GRAPH, drawn, finished
from tests.service import Service, assert_problem


async def fetched(service: Service, path: str, **headers: str) -> httpx.Response:
    """Also from a bucket's link."""
    response = await service.client.get(path, headers=headers)
    if response.status_code != 307:
        return response
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(response.headers["location"], headers=headers)


def opened(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    image = Image.open(BytesIO(response.content))
    image.load()
    return image


@pytest.mark.parametrize(("format", "suffix"), [("webp", "webp"), ("jpeg", "jpg"), ("png", "png")])
async def test_a_picture_comes_in_the_format_that_is_asked_for_with_its_graph(
    any_service: Service, tmp_path: Path, format: str, suffix: str
) -> None:
    asset_id = await finished(any_service, tmp_path)
    response = await fetched(any_service, f"/api/assets/{asset_id}/file?format={format}&quality=70")
    image = opened(response)
    assert (image.format, image.size) == (format.upper(), (333, 217))
    if format == "png":
        assert json.loads(image.text["prompt"]) == GRAPH  # type: ignore[attr-defined]
        assert "parameters" not in image.text  # type: ignore[attr-defined]
        return
    assert json.loads(image.getexif()[0x0110].removeprefix("prompt:")) == GRAPH
    assert response.headers["content-type"] == f"image/{format}"
    assert response.headers["content-disposition"] == f'inline; filename="{asset_id}.{suffix}"'
    assert list(scratch_root(any_service.settings).iterdir()) == []


async def test_the_text_for_other_programs_comes_only_when_asked_for(service: Service, tmp_path: Path) -> None:
    asset_id = await finished(service, tmp_path, prompt="a cat ☃", seed=7, negative_prompt="blur", true_cfg_scale=2.0)
    image = opened(await service.client.get(f"/api/assets/{asset_id}/file?metadata=a1111"))
    first, second, third = image.text["parameters"].splitlines()  # type: ignore[attr-defined]
    assert (first, second) == ("a cat ☃", "Negative prompt: blur")
    assert "Seed: 7, Size: 333x217, Model: flux-dev" in third
    assert json.loads(image.text["prompt"]) == GRAPH  # type: ignore[attr-defined]


@pytest.mark.parametrize("wish", ["file", "file?format=webp", "file?metadata=a1111", "thumbnail"])
async def test_any_form_has_ranges_and_an_etag(service: Service, tmp_path: Path, wish: str) -> None:
    path = f"/api/assets/{await finished(service, tmp_path)}/{wish}"
    whole = await service.client.get(path)
    tag = whole.headers["etag"]
    part = await service.client.get(path, headers={"Range": "bytes=10-19", "If-Range": tag})
    assert (part.status_code, part.content, part.headers["etag"]) == (206, whole.content[10:20], tag)
    changed = await service.client.get(path, headers={"Range": "bytes=10-19", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    for known in (tag, f'"x", W/{tag}', "*"):
        same = await service.client.get(path, headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert (await service.client.get(path, headers={"If-None-Match": '"x"'})).status_code == 200


async def test_every_form_has_an_etag_of_its_own(service: Service, tmp_path: Path) -> None:
    path = f"/api/assets/{await finished(service, tmp_path)}/"
    wishes = ["file", "file?format=webp", "file?format=webp&quality=50", "file?format=jpeg", "file?metadata=a1111"]
    wishes += ["thumbnail", "thumbnail?size=medium"]
    tags = [(await service.client.get(path + wish)).headers["etag"] for wish in wishes]
    assert len(set(tags)) == len(wishes)


@pytest.mark.parametrize(
    "query",
    ["file?format=gif", "file?quality=0", "file?quality=101", "file?metadata=all", "thumbnail?size=huge"],
)
async def test_a_form_that_there_is_not_is_refused(service: Service, tmp_path: Path, query: str) -> None:
    asset_id = await finished(service, tmp_path)
    assert_problem(await service.client.get(f"/api/assets/{asset_id}/{query}"), 422, "validation_failed")


async def test_a_graph_that_no_jpeg_holds_leaves_nothing_behind(service: Service, tmp_path: Path) -> None:
    data = drawn(texts={"prompt": json.dumps({"1": "x" * 66000})})
    asset_id = await finished(service, tmp_path, data)
    response = await service.client.get(f"/api/assets/{asset_id}/file?format=jpeg")
    assert_problem(response, 409, "graph_too_large")
    assert list(scratch_root(service.settings).iterdir()) == []


# ---- thumbnails ------------------------------------------------------------------------------------------------------


async def test_thumbnails_have_three_sizes_and_are_each_made_once(any_service: Service, tmp_path: Path) -> None:
    asset_id = await finished(any_service, tmp_path, drawn((1500, 750)))
    path = f"/api/assets/{asset_id}/thumbnail"
    for size, shape in (("small", (256, 128)), ("medium", (512, 256)), ("large", (1024, 512))):
        image = opened(await fetched(any_service, f"{path}?size={size}"))
        assert (image.format, image.size) == ("WEBP", shape)
    before = await any_service.traces()
    assert (before["thumbnail"], before["unrecorded_file"]) == (3, 0)
    assert opened(await fetched(any_service, path)).size == (256, 128)
    assert await any_service.traces() == before


async def test_a_thumbnail_that_many_ask_for_at_once_is_kept_once(any_service: Service, tmp_path: Path) -> None:
    asset_id = await finished(any_service, tmp_path)
    before = await any_service.traces()
    path = f"/api/assets/{asset_id}/thumbnail"
    answers = await asyncio.gather(*(any_service.client.get(path) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 307}
    more = {"thumbnail": before["thumbnail"] + 1}
    if any_service.resources.storage.local_path("a") is not None:
        more["files"] = before["files"] + 1
    assert await any_service.traces() == {**before, **more}


async def test_a_thumbnail_whose_file_is_lost_is_made_again(service: Service, tmp_path: Path) -> None:
    path = f"/api/assets/{await finished(service, tmp_path)}/thumbnail"
    first = await service.client.get(path)
    (lost,) = (service.settings.masuka_data_dir / "storage" / "thumbnails").rglob("*.webp")
    lost.unlink()
    again = await service.client.get(path)
    assert (again.status_code, again.content) == (200, first.content)
    assert (await service.traces())["thumbnail"] == 1


@pytest.mark.parametrize("wish", ["file?format=webp", "thumbnail", "file"])
async def test_a_picture_that_is_not_made_or_is_lost_is_said_so(service: Service, tmp_path: Path, wish: str) -> None:
    asset_id = await finished(service, tmp_path)
    for stored in (service.settings.masuka_data_dir / "storage" / "assets").iterdir():
        stored.unlink()
    assert_problem(await service.client.get(f"/api/assets/{asset_id}/{wish}"), 404, "file_missing")
    waiting: dict[str, Any] = await service.pictures()
    response = await service.client.get(f"/api/assets/{waiting['asset_id']}/{wish}")
    assert_problem(response, 409, "asset_not_ready")
