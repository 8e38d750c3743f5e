"""`/api/datasets`: pictures in, read, out."""

import json
from pathlib import Path

import pytest

from api.errors import EngineError
from tests.routes.test_bad_uploads import zipped
from tests.service import NOBODY, Service, assert_problem, png


async def test_an_upload_is_kept_and_every_file_accounted_for(any_service: Service) -> None:
    files = {"a.png": png(1), "a.txt": b"a portrait\n", "b.png": png(2), "bad.png": b"no", "again.png": png(1)}
    params = {"crop": True, "sizes": [1, 2.5, None], "note": "é"}
    fields = {"trigger_word": "ohwx", "caption_style": "photo", "preprocessing_params": json.dumps(params)}
    response = await any_service.upload(files, name="  me  ", **fields)
    assert response.status_code == 201
    created = response.json()
    assert (created["name"], created["image_count"], created["is_processed"]) == ("me", 2, True)
    assert created["dataset_metadata"] == {
        "trigger_word": "ohwx",
        "caption_style": "photo",
        "preprocessing_params": params,
    }
    assert {report["filename"]: report["code"] for report in created["files"]} == {
        "a.png": None,
        "a.txt": None,
        "b.png": None,
        "bad.png": "not_an_image",
        "again.png": "duplicate",
    }
    detail = (await any_service.client.get(f"/api/datasets/{created['id']}")).json()
    assert [(image["filename"], image["caption"]) for image in detail["images"]] == [
        ("a.png", "ohwx, a portrait"),
        ("b.png", "ohwx"),
    ]
    assert [image["caption_source"] for image in detail["images"]] == ["uploaded", "none"]


async def test_a_zip_is_taken_like_its_files(service: Service) -> None:
    archive = zipped({"set/a.png": png(), "set/a.txt": b"me", "../b.png": png(1), "__MACOSX/._a.png": b"x"})
    response = await service.upload({"set.zip": archive}, name="me")
    assert response.status_code == 201
    assert {report["filename"]: report["status"] for report in response.json()["files"]} == {
        "set/a.png": "taken",
        "set/a.txt": "taken",
        "../b.png": "refused",
    }
    assert all(path.is_relative_to(service.settings.masuka_data_dir / "storage") for path in service.files())


async def test_names_in_any_script_and_emoji_are_taken(service: Service) -> None:
    name = "Ключ　山田 👨\u200d👩\u200d👧"
    assert (await service.dataset(name))["name"] == name


async def test_after_an_upload_only_the_pictures_stay(service: Service) -> None:
    created = await service.dataset(pictures=3)
    folder = service.settings.masuka_data_dir / "storage" / "datasets" / created["id"]
    assert {path.parent for path in service.files()} == {folder}
    assert len(service.files()) == 3


async def test_deleting_a_dataset_removes_its_files_and_rows(any_service: Service) -> None:
    before = await any_service.traces()
    created = await any_service.dataset(pictures=2)
    assert (await any_service.client.delete(f"/api/datasets/{created['id']}")).status_code == 204
    await any_service.remove_leftovers()
    assert await any_service.traces() == before
    response = await any_service.client.delete(f"/api/datasets/{created['id']}")
    assert_problem(response, 404, "dataset_not_found")


async def test_a_dataset_in_use_is_not_deleted_until_its_training_ends(service: Service) -> None:
    training = await service.training()
    path = f"/api/datasets/{training['dataset_id']}"
    assert_problem(await service.client.delete(path), 409, "dataset_in_use")
    lease = await service.claim()
    assert_problem(await service.client.delete(path), 409, "dataset_in_use")
    await service.fail(lease, EngineError("It failed."))
    assert (await service.client.delete(path)).status_code == 204
    assert (await service.client.get(f"/api/training/{training['id']}")).json()["dataset_id"] is None


async def test_files_come_back_whatever_their_order_was(service: Service) -> None:
    files = {f"{n:02}.png": png(n) for n in range(12)}
    created = (await service.upload(files, name="me")).json()
    images = (await service.client.get(f"/api/datasets/{created['id']}")).json()["images"]
    assert [image["filename"] for image in images] == list(files)
    assert len({image["sha256"] for image in images}) == 12


async def test_an_upload_without_a_slash_finds_its_way(service: Service) -> None:
    response = await service.client.get("/api/datasets", follow_redirects=True)
    assert response.json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("path", [f"/api/datasets/{NOBODY}", "/api/datasets/"])
async def test_half_an_upload_is_never_shown(service: Service, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    put = service.resources.storage.put_file

    async def look_while_storing(key: str, source: Path, content_type: str | None = None) -> object:
        unfinished = key.split("/")[1]
        response = await service.client.get(path.replace(NOBODY, unfinished))
        seen.append(response.status_code if NOBODY in path else len(response.json()["items"]))
        return await put(key, source, content_type)

    monkeypatch.setattr(service.resources.storage, "put_file", look_while_storing)
    await service.dataset()
    assert seen == [404 if NOBODY in path else 0]
