"""`PATCH /api/datasets/{id}`: a dataset gets another name or trigger word, and what was made of it keeps its own."""

from typing import Any

import pytest

from tests.service import Service, assert_problem


async def change(service: Service, dataset: dict[str, Any], body: Any, revision: int | None = None) -> Any:
    headers = {} if revision is None else {"If-Match": f'"{revision}"'}
    return await service.client.patch(f"/api/datasets/{dataset['id']}", json=body, headers=headers)


async def test_a_new_trigger_word_is_a_new_version_and_trainings_keep_the_old_one(any_service: Service) -> None:
    dataset = await any_service.dataset(trigger_word="ohwx", caption_style="detailed_caption")
    before = await any_service.training(dataset_id=dataset["id"])
    answer = await change(any_service, dataset, {"name": "me", "trigger_word": "sks"})
    after = await any_service.training(dataset_id=dataset["id"])

    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["name"], changed["revision"]) == ("me", dataset["revision"] + 1)
    assert changed["dataset_metadata"] == dataset["dataset_metadata"] | {"trigger_word": "sks"}
    assert answer.headers["etag"] == f'"{changed["revision"]}"'
    assert [training["config"]["trigger_word"] for training in (before, after)] == ["ohwx", "sks"]
    assert before["dataset_version_id"] != after["dataset_version_id"]

    path = f"/api/datasets/{dataset['id']}/versions/{before['dataset_version_id']}/restore"
    assert (await any_service.client.post(path)).status_code == 200
    shown = (await any_service.client.get(f"/api/datasets/{dataset['id']}")).json()
    assert shown["dataset_metadata"]["trigger_word"] == "ohwx"


async def test_a_trigger_word_can_be_taken_away_and_what_is_left_out_stays(service: Service) -> None:
    dataset = await service.dataset(name="me", trigger_word="ohwx")
    changed = (await change(service, dataset, {"trigger_word": None})).json()
    assert (changed["name"], changed["dataset_metadata"]["trigger_word"]) == ("me", None)
    again = (await change(service, dataset, {"caption_style": "caption"})).json()
    assert again["dataset_metadata"] == changed["dataset_metadata"] | {"caption_style": "caption"}


@pytest.mark.parametrize("body", [{"trigger_word": "a\nb"}, {"name": ""}, {"name": "x" * 101}, {"image_count": 5}])
async def test_what_cannot_be_is_refused_and_changes_nothing(service: Service, body: dict[str, Any]) -> None:
    dataset = await service.dataset()
    assert_problem(await change(service, dataset, body), 422, "validation_failed")
    shown = (await service.client.get(f"/api/datasets/{dataset['id']}")).json()
    assert {name: shown[name] for name in dataset.keys() & shown.keys()} == {
        name: dataset[name] for name in dataset.keys() & shown.keys()
    }


async def test_a_change_of_what_was_changed_meanwhile_is_refused(service: Service) -> None:
    dataset = await service.dataset(trigger_word="ohwx")
    assert (await change(service, dataset, {"name": "me"}, revision=dataset["revision"])).status_code == 200
    assert_problem(
        await change(service, dataset, {"name": "you"}, revision=dataset["revision"]), 412, "dataset_changed"
    )
    assert (await service.client.get(f"/api/datasets/{dataset['id']}")).json()["name"] == "me"
