"""Images of a dataset: listed, added, replaced, removed; and their files."""

import asyncio
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.faults.campaign.bucket import keys_in
from tests.intake.pictures import encoded, scene
from tests.service import Service, assert_problem, png


async def send(service: Service, method: str, path: str, *files: tuple[str, bytes], **headers: str) -> httpx.Response:
    field = "files" if method == "POST" else "file"
    return await service.client.request(method, path, files=[(field, file) for file in files], headers=headers)


async def listed(service: Service, dataset_id: str, limit: int = 200) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        query = {"limit": limit, **cursor}
        page = (await service.client.get(f"/api/datasets/{dataset_id}/images", params=query)).json()
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_images_are_listed_by_pages_in_their_order(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=5)
    names = [image["filename"] for image in await listed(any_service, dataset["id"], limit=2)]
    assert names == [f"{n}.png" for n in range(5)]
    for junk in ("junk", "AAAA", "x" * 200):
        response = await any_service.client.get(f"/api/datasets/{dataset['id']}/images", params={"cursor": junk})
        assert_problem(response, 422, "cursor_invalid")


async def test_what_is_added_comes_behind_and_what_is_there_is_refused(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=2, trigger_word="ohwx")
    path = f"/api/datasets/{dataset['id']}/images"
    files = [("again.png", png(1)), ("new.png", png(7)), ("new.txt", b"a portrait"), ("bad.png", b"no")]
    added = (await send(any_service, "POST", path, *files)).json()
    assert (added["image_count"], added["revision"]) == (3, 1)
    assert [(image["filename"], image["caption"]) for image in added["images"]] == [("new.png", "ohwx, a portrait")]
    assert {report["filename"]: report["code"] for report in added["files"]} == {
        "again.png": "duplicate",
        "new.png": None,
        "new.txt": None,
        "bad.png": "not_an_image",
    }
    assert [image["filename"] for image in await listed(any_service, dataset["id"])] == ["0.png", "1.png", "new.png"]
    assert (await any_service.client.get(f"/api/datasets/{dataset['id']}")).json()["image_count"] == 3

    before = await any_service.traces()
    assert_problem(await send(any_service, "POST", path, ("a.png", png(0)), ("b.png", png(7))), 422, "no_usable_images")
    await any_service.remove_leftovers()
    assert await any_service.traces() == before


async def test_the_same_pictures_added_many_times_at_once_are_there_once(any_service: Service) -> None:
    dataset = await any_service.dataset()
    path = f"/api/datasets/{dataset['id']}/images"
    answers = await asyncio.gather(*(send(any_service, "POST", path, ("new.png", png(7))) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422, 422]
    await any_service.remove_leftovers()
    assert len(await listed(any_service, dataset["id"])) == 2
    assert len(await _stored(any_service, dataset["id"])) == 2


async def test_a_repeated_key_adds_once(service: Service) -> None:
    dataset = await service.dataset()
    path = f"/api/datasets/{dataset['id']}/images"
    first, again = [await send(service, "POST", path, ("a.png", png(7)), **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert (first.status_code, first.json()) == (201, again.json())
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_another_picture_takes_the_place_of_one(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=2, trigger_word="ohwx")
    first, second = await listed(any_service, dataset["id"])
    path = f"/api/datasets/{dataset['id']}/images/{first['id']}"
    old = await _bytes(any_service, f"{path}/thumbnail")
    jpeg = encoded(scene(9, (300, 200)), "JPEG")
    replaced = (await send(any_service, "PUT", path, ("better.jpg", jpeg))).json()
    same = ("id", "position", "caption", "caption_source")
    assert [replaced[name] for name in same] == [first[name] for name in same]
    assert (replaced["filename"], replaced["width"], replaced["height"]) == ("better.jpg", 300, 200)
    new = await _bytes(any_service, f"{path}/thumbnail")
    with Image.open(BytesIO(new)) as small:
        assert (small.size, small.format) == ((256, 171), "WEBP")
    assert new != old
    with Image.open(BytesIO(await _bytes(any_service, f"{path}/file"))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (300, 200))
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"], first["id"])) == 3  # two pictures and a thumbnail

    assert_problem(await send(any_service, "PUT", path, ("0.png", png(1))), 409, "duplicate")
    assert_problem(await send(any_service, "PUT", path, ("0.png", b"no")), 422, "no_usable_images")
    assert_problem(await send(any_service, "PUT", path, ("0.png", png(5)), ("1.png", png(6))), 422, "one_file_needed")
    assert (await listed(any_service, dataset["id"]))[1] == second


async def test_a_removed_image_leaves_nothing(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=2)
    first, second = await listed(any_service, dataset["id"])
    path = f"/api/datasets/{dataset['id']}/images/{first['id']}"
    await _bytes(any_service, f"{path}/thumbnail")
    assert (await any_service.client.delete(path)).status_code == 204
    assert_problem(await any_service.client.get(path), 404, "image_not_found")
    await any_service.remove_leftovers()
    assert await listed(any_service, dataset["id"]) == [second]
    assert len(await _stored(any_service, dataset["id"], first["id"])) == 1
    traces = await any_service.traces()
    assert (traces["dataset_image"], traces["dataset_thumbnail"], traces["unrecorded_file"]) == (1, 0, 0)


async def test_a_change_of_an_image_that_has_changed_is_refused(service: Service) -> None:
    dataset = await service.dataset()
    (image,) = await listed(service, dataset["id"])
    path = f"/api/datasets/{dataset['id']}/images/{image['id']}"
    tag = (await service.client.get(path)).headers["etag"]
    changed = await send(service, "PUT", path, ("b.png", png(5)), **{"If-Match": tag})
    assert changed.status_code == 200
    assert_problem(await send(service, "PUT", path, ("c.png", png(6)), **{"If-Match": tag}), 412, "image_changed")
    assert_problem(await service.client.delete(path, headers={"If-Match": tag}), 412, "image_changed")
    assert (await service.client.delete(path, headers={"If-Match": changed.headers["etag"]})).status_code == 204
    stale = await send(
        service, "POST", f"/api/datasets/{dataset['id']}/images", ("d.png", png(7)), **{"If-Match": '"0"'}
    )
    assert_problem(stale, 412, "dataset_changed")
    await service.remove_leftovers()
    assert service.files() == []


@pytest.mark.parametrize("what", ["file", "thumbnail"])
async def test_the_bytes_of_an_image_are_had_once(service: Service, what: str) -> None:
    dataset = await service.dataset()
    (image,) = await listed(service, dataset["id"])
    path = f"/api/datasets/{dataset['id']}/images/{image['id']}/{what}"
    first = await service.client.get(path)
    assert first.headers["content-type"] == ("image/png" if what == "file" else "image/webp")
    again = await service.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await service.client.get(path, headers={"Range": "bytes=0-3"})).content == first.content[:4]


async def test_a_thumbnail_that_is_asked_for_by_many_is_made_once(any_service: Service) -> None:
    dataset = await any_service.dataset()
    (image,) = await listed(any_service, dataset["id"])
    path = f"/api/datasets/{dataset['id']}/images/{image['id']}/thumbnail"
    seen = await asyncio.gather(*(_bytes(any_service, path) for _ in range(6)))
    assert len(set(seen)) == 1
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"], image["id"])) == 2
    await any_service.client.delete(f"/api/datasets/{dataset['id']}")
    await any_service.remove_leftovers()
    assert await _stored(any_service, dataset["id"], image["id"]) == []


async def _bytes(service: Service, path: str) -> bytes:
    response = await service.client.get(path)
    if response.status_code == 307:
        async with httpx.AsyncClient(trust_env=False) as web:
            response = await web.get(response.headers["location"])
    assert response.status_code == 200, response.text
    return response.content


async def _stored(service: Service, *ids: str) -> list[str]:
    """What the storage has of a dataset and its images; the bucket is shared with other tests."""
    return [key for key in await keys_in(service.settings) if any(part in key for part in ids)]
