"""A dataset goes out as a zip and comes back the same."""

import json
import zipfile
from io import BytesIO
from typing import Any

import pytest

from tests.routes.test_bad_uploads import zipped
from tests.routes.test_dataset_images import listed, send
from tests.service import Service, png

OWN = ("filename", "sha256", "width", "height", "size_bytes", "caption", "caption_source", "caption_provenance")


async def exported(service: Service, dataset_id: str, **query: str) -> bytes:
    response = await service.client.get(f"/api/datasets/{dataset_id}/export", params=query)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/zip")
    return response.content


async def contents(service: Service, dataset_id: str) -> list[dict[str, Any]]:
    return [{name: image[name] for name in OWN} for image in await listed(service, dataset_id)]


async def test_an_export_makes_the_same_dataset_again(any_service: Service) -> None:
    files = {"b/z.png": png(1), "b/z.txt": b"a portrait", "a.png": png(2), "Ключ 田.png": png(3), "a.JPG": png(4)}
    params = json.dumps({"crop": True})
    about = {"trigger_word": "ohwx", "caption_style": "photo", "preprocessing_params": params}
    created = (await any_service.upload(files, name="me", **about)).json()
    path = f"/api/datasets/{created['id']}"
    images = await listed(any_service, created["id"])
    await any_service.client.put(f"{path}/captions/{images[1]['id']}", json={"caption": "no word, “quoted”"})
    await any_service.client.put(f"{path}/captions/{images[2]['id']}", json={"caption": ""})
    await send(any_service, "POST", f"{path}/images", ("a.png", png(5)))

    data = await exported(any_service, created["id"])
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.lower().endswith(("png", "jpg"))]
        assert names == ["b/z.png", "a.png", "Ключ 田.png", "a-2.JPG", "a-3.png"]
        assert archive.read("a.txt").decode() == "no word, “quoted”\n"
    again = (await any_service.upload({"me.zip": data}, name="me")).json()
    assert again["dataset_metadata"] == created["dataset_metadata"]
    assert {report["status"] for report in again["files"]} == {"taken"}
    assert await contents(any_service, again["id"]) == await contents(any_service, created["id"])


async def test_a_version_is_exported_as_it_was(service: Service) -> None:
    dataset = await service.dataset(pictures=2)
    path = f"/api/datasets/{dataset['id']}"
    before = await contents(service, dataset["id"])
    version = (await service.client.post(f"{path}/versions")).json()
    (first, _) = await listed(service, dataset["id"])
    await service.client.delete(f"{path}/images/{first['id']}")
    data = await exported(service, dataset["id"], version_id=version["id"])
    again = (await service.upload({"me.zip": data}, name="me")).json()
    assert await contents(service, again["id"]) == before


async def test_an_export_comes_back_with_another_trigger_word(service: Service) -> None:
    created = (await service.upload({"a.png": png(), "a.txt": b"a portrait"}, name="me", trigger_word="ohwx")).json()
    data = await exported(service, created["id"])
    again = (await service.upload({"me.zip": data}, name="me", trigger_word="sks")).json()
    (image,) = await contents(service, again["id"])
    assert (again["dataset_metadata"]["trigger_word"], image["caption"]) == ("sks", "sks, ohwx, a portrait")


async def test_a_manifest_that_is_none_is_refused_and_the_pictures_taken(service: Service) -> None:
    entry = {"filename": "../a.png", "caption_source": "uploaded"}
    for junk in (b"{", b"[]", b"[" * 100_000, b"\xff", json.dumps({"images": {"a.png": entry}}).encode()):
        archive = zipped({"masuka-dataset.json": junk, "a.png": png()})
        created = (await service.upload({"set.zip": archive}, name="me")).json()
        codes = {report["filename"]: report["code"] for report in created["files"]}
        assert codes == {"masuka-dataset.json": "manifest_invalid", "a.png": None}


async def test_a_zip_whose_picture_is_gone_has_no_end(service: Service) -> None:
    dataset = await service.dataset(pictures=2)
    next(path for path in service.files() if "00001-" in path.name).unlink()
    with pytest.raises(FileNotFoundError):  # so a server cuts the connection
        await exported(service, dataset["id"])
