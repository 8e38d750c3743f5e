"""Versions: the same content is the same version, trainings keep theirs, and every way leads back."""

from typing import Any
from uuid import UUID

from api.models import TrainingSession
from api.services import dataset_versions
from tests.routes.test_dataset_images import _stored, listed, send
from tests.service import Service, assert_problem, png


async def keep(service: Service, dataset_id: str) -> dict[str, Any]:
    response = await service.client.post(f"/api/datasets/{dataset_id}/versions")
    assert response.status_code == 201
    return dict(response.json())


async def restore(service: Service, dataset_id: str, version: dict[str, Any]) -> dict[str, Any]:
    response = await service.client.post(f"/api/datasets/{dataset_id}/versions/{version['id']}/restore")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def trained_on(service: Service, training: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and captions that the trainer would be given now."""
    async with service.resources.sessions() as session:
        row = await session.get_one(TrainingSession, UUID(training["id"]))
        return [(image.filename, image.caption) for image in await dataset_versions.trained_on(session, row)]


async def test_the_same_content_is_the_same_version(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=2)
    path = f"/api/datasets/{dataset['id']}"
    first = await keep(any_service, dataset["id"])
    assert await keep(any_service, dataset["id"]) == first
    image = (await listed(any_service, dataset["id"]))[0]
    await any_service.client.put(f"{path}/captions/{image['id']}", json={"caption": "me"})
    second = await keep(any_service, dataset["id"])
    assert (first["number"], second["number"]) == (1, 2)
    await any_service.client.post(f"{path}/captions/undo")
    assert await keep(any_service, dataset["id"]) == first
    versions = (await any_service.client.get(f"{path}/versions")).json()["items"]
    assert versions == [second, first]
    detail = (await any_service.client.get(f"{path}/versions/{second['id']}")).json()
    assert [one["caption"] for one in detail["images"]] == ["me", ""]


async def test_a_version_comes_back_whole_and_so_does_what_was_before(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=3)
    path = f"/api/datasets/{dataset['id']}"
    version = await keep(any_service, dataset["id"])
    before = await listed(any_service, dataset["id"])
    first, second, _ = (image["id"] for image in before)
    await any_service.client.delete(f"{path}/images/{first}")
    await send(any_service, "PUT", f"{path}/images/{second}", ("other.png", png(8)))
    await send(any_service, "POST", f"{path}/images", ("new.png", png(9)))
    await any_service.client.put(f"{path}/captions/{second}", json={"caption": "other"})
    await any_service.client.get(f"{path}/images/{second}/thumbnail")
    changed = await listed(any_service, dataset["id"])
    await any_service.remove_leftovers()

    restored = await restore(any_service, dataset["id"], version)
    assert await listed(any_service, dataset["id"]) == before
    assert (await any_service.client.get(path)).json()["image_count"] == 3
    assert restored["version"]["id"] == version["id"]
    await any_service.remove_leftovers()
    await restore(any_service, dataset["id"], restored["before"])
    assert await listed(any_service, dataset["id"]) == changed
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"])) == 5  # all that was ever in it
    for image in changed:
        assert (await any_service.client.get(f"{path}/images/{image['id']}/file")).status_code in (200, 307)
    stale = await any_service.client.post(
        f"{path}/versions/{version['id']}/restore", headers={"If-Match": f'"{restored["revision"]}"'}
    )
    assert_problem(stale, 412, "dataset_changed")

    await any_service.client.delete(path)
    await any_service.remove_leftovers()
    assert await _stored(any_service, dataset["id"], second) == []


async def test_a_file_is_kept_for_as_long_as_a_version_needs_it(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=2)
    path = f"/api/datasets/{dataset['id']}"
    old = await keep(any_service, dataset["id"])
    image = (await listed(any_service, dataset["id"]))[0]
    await any_service.client.delete(f"{path}/images/{image['id']}")
    new = await keep(any_service, dataset["id"])
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"])) == 2
    assert (await any_service.client.delete(f"{path}/versions/{new['id']}")).status_code == 204
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"])) == 2
    assert (await any_service.client.delete(f"{path}/versions/{old['id']}")).status_code == 204
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"])) == 1
    assert (await any_service.traces())["unrecorded_file"] == 0


async def test_a_picture_that_went_and_came_again_leaves_no_file_behind(service: Service) -> None:
    dataset = await service.dataset(pictures=2)
    path = f"/api/datasets/{dataset['id']}"
    version = await keep(service, dataset["id"])
    last = (await listed(service, dataset["id"]))[1]
    await service.client.delete(f"{path}/images/{last['id']}")
    await send(service, "POST", f"{path}/images", ("1.png", png(1)))
    assert await keep(service, dataset["id"]) == version
    await restore(service, dataset["id"], version)
    await service.remove_leftovers()
    assert [image["id"] for image in await listed(service, dataset["id"])][1] == last["id"]
    assert len(service.files()) == 2


async def test_a_training_has_the_version_that_it_was_asked_for_on(any_service: Service) -> None:
    dataset = await any_service.dataset(pictures=2, trigger_word="ohwx")
    path = f"/api/datasets/{dataset['id']}"
    training = await any_service.training(dataset_id=dataset["id"])
    first, second = await listed(any_service, dataset["id"])
    await any_service.client.delete(f"{path}/images/{first['id']}")
    await any_service.client.put(f"{path}/captions/{second['id']}", json={"caption": "other"})
    assert await trained_on(any_service, training) == [("0.png", "ohwx"), ("1.png", "ohwx")]
    again = await any_service.training(dataset_id=dataset["id"])
    assert await trained_on(any_service, again) == [("1.png", "other")]
    assert training["dataset_version_id"] != again["dataset_version_id"]
    version = (await any_service.client.get(f"{path}/versions/{training['dataset_version_id']}")).json()
    assert (version["number"], version["trigger_word"]) == (1, "ohwx")
    refused = await any_service.client.delete(f"{path}/versions/{training['dataset_version_id']}")
    assert_problem(refused, 409, "version_in_use")
    await any_service.remove_leftovers()
    assert len(await _stored(any_service, dataset["id"])) == 2


async def test_a_dataset_without_images_is_not_trained_on_but_comes_back(service: Service) -> None:
    dataset = await service.dataset()
    version = await keep(service, dataset["id"])
    (image,) = await listed(service, dataset["id"])
    await service.client.delete(f"/api/datasets/{dataset['id']}/images/{image['id']}")
    await service.pulse("flux-dev", "flux-tiny")
    refused = await service.client.post("/api/training/flux", json={"dataset_id": dataset["id"]})
    assert_problem(refused, 409, "dataset_empty")
    await restore(service, dataset["id"], version)
    assert await listed(service, dataset["id"]) == [image]


async def test_a_version_of_another_dataset_is_not_found(service: Service) -> None:
    one, other = await service.dataset(), await service.dataset("you")
    version = await keep(service, one["id"])
    path = f"/api/datasets/{other['id']}/versions/{version['id']}"
    assert_problem(await service.client.get(path), 404, "version_not_found")
    assert_problem(await service.client.post(f"{path}/restore"), 404, "version_not_found")
    assert_problem(await service.client.delete(path), 404, "version_not_found")
