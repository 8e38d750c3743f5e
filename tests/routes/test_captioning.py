"""Captionings as a client asks for them and reads them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.domain.job import Kind
from api.models import Captioning
from api.services import captioned, datasets
from api.settings import Settings
from tests.captioner.stand import with_fake_captioner
from tests.job_rows import read
from tests.service import NOBODY, Service, assert_problem, ids, png, serving

FLORENCE = {"captioner": "florence-2"}
MODEL = {"model": "florence", "revision": "1"}


@pytest.fixture
async def service(service_settings: Settings, tmp_path: Path) -> AsyncIterator[Service]:
    """With both captioners installed, as far as anybody can see."""
    async with serving(with_fake_captioner(service_settings, tmp_path)) as opened:
        yield opened


async def asked(service: Service, dataset_id: str, **body: Any) -> dict[str, Any]:
    response = await service.client.post(f"/api/datasets/{dataset_id}/caption", json=FLORENCE | body)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def say(service: Service, captioning_id: str, *said: str | None) -> None:
    """Be the worker: None is an image that fails."""
    lease = await service.claim()
    async with service.resources.sessions.begin() as session:
        row = await session.get_one(Captioning, UUID(captioning_id))
        pictures = {image.id: image.sha256 for image in await datasets.images(session, row.dataset_id)}
        for item, text in zip(await captioned.to_do(session, row), said, strict=True):
            if text is None:
                await captioned.fail(session, lease, item, "image_unreadable", "it cannot be read")
            else:
                await captioned.record(session, lease, row, item, pictures[item.image_id], text, MODEL)
        await captioned.finish(session, row, await captioned.judge(session, row))
    await service.complete(lease)


async def test_captions_are_asked_for_followed_and_read(any_service: Service) -> None:
    service = any_service
    await service.pulse_captioners("florence-2")
    dataset = await service.dataset(pictures=3, trigger_word="ohwx")
    started = await asked(service, dataset["id"])
    assert (started["status"], started["total"]) == ("pending", 3)
    job = await read(service.resources.sessions, UUID(started["task_id"]))
    assert (job.kind, job.queue) == (Kind.CAPTION.value, "gpu")
    shown = (await service.client.get(f"/api/captionings/{started['captioning_id']}")).json()
    assert (shown["style"], shown["prompt"], shown["trigger_word"]) == (
        "detailed_caption",
        "<DETAILED_CAPTION>",
        "ohwx",
    )
    await say(service, shown["id"], "a face", None, "ohwx in a coat")
    shown = (await service.client.get(f"/api/captionings/{shown['id']}")).json()
    assert [shown[name] for name in ("status", "captioned", "failed", "kept")] == ["completed", 2, 1, 0]
    after = (await service.client.get(f"/api/datasets/{dataset['id']}")).json()
    assert after["captions_generated"] is True
    assert [image["caption"] for image in after["images"]] == ["ohwx, a face", "ohwx", "ohwx in a coat"]
    url = f"/api/captionings/{shown['id']}/images"
    failed = (await service.client.get(url, params={"status": "failed"})).json()["items"]
    assert [(each["filename"], each["error_code"]) for each in failed] == [("1.png", "image_unreadable")]
    first = (await service.client.get(url, params={"limit": 2})).json()
    second = (await service.client.get(url, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [each["filename"] for each in first["items"] + second["items"]] == ["0.png", "1.png", "2.png"]
    for any_id in (shown["id"], shown["task_id"]):
        stream = await service.client.get(f"/api/progress/stream/{any_id}")
        assert '"status": "completed"' in stream.text


async def test_a_dataset_is_deleted_with_its_captionings(any_service: Service) -> None:
    service = any_service
    await service.pulse_captioners("florence-2")
    dataset = await service.dataset()
    started = await asked(service, dataset["id"])
    url = f"/api/datasets/{dataset['id']}"
    problem = assert_problem(await service.client.delete(url), 409, "dataset_in_use")
    assert "captioning" in problem["detail"]
    await service.client.post(f"/api/jobs/{started['task_id']}/cancel")
    assert (await service.client.delete(url)).status_code == 204
    await service.remove_leftovers()
    assert (await service.traces())["captioning_image"] == 0
    assert_problem(
        await service.client.get(f"/api/captionings/{started['captioning_id']}"), 404, "captioning_not_found"
    )


async def test_the_same_key_captions_once(service: Service) -> None:
    dataset = await service.dataset()
    url, key = f"/api/datasets/{dataset['id']}/caption", {"Idempotency-Key": "once"}
    answers = [await service.client.post(url, json=FLORENCE, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()


async def test_captionings_are_found_by_dataset_and_status(service: Service) -> None:
    datasets = [await service.dataset() for _ in range(2)]
    started = [await asked(service, dataset["id"]) for dataset in datasets]

    async def found(**params: str) -> list[str]:
        return ids((await service.client.get("/api/captionings/", params=params)).json()["items"])

    assert await found() == [each["captioning_id"] for each in reversed(started)]
    assert await found(dataset_id=datasets[0]["id"]) == [started[0]["captioning_id"]]
    assert await found(status="completed") == []
    await say(service, started[0]["captioning_id"], "a face")
    assert await found(status="completed") == [started[0]["captioning_id"]]


async def test_captioners_say_what_they_can_and_what_they_need(service: Service) -> None:
    await service.pulse_captioners("joycaption")
    florence, joy = (await service.client.get("/api/captioners/")).json()["items"]
    assert [(each["name"], each["installed"], each["prompts"]) for each in (florence, joy)] == [
        ("florence-2", False, False),
        ("joycaption", True, True),
    ]
    assert all(each["default_style"] in each["styles"] for each in (florence, joy))
    assert all(len(each["revision"]) == 40 for each in (florence, joy))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"style": "midjourney"}, 422, "style_unknown"),
        ({"prompt": "Describe the coat."}, 422, "prompt_not_understood"),
        ({"captioner": "joycaption", "style": "midjourney", "prompt": "x"}, 422, "style_and_prompt"),
        ({"only": [NOBODY]}, 422, "image_unknown"),
        ({"captioner": "blip"}, 422, "validation_failed"),
        ({"overwrite": "all"}, 422, "validation_failed"),
        ({"overwrite": True}, 422, "validation_failed"),
        ({"only": []}, 422, "validation_failed"),
        ({"only": ["1"]}, 422, "validation_failed"),
        ({"prompt": ""}, 422, "validation_failed"),
        ({"prompt": "a\u0000b"}, 422, "validation_failed"),
        ({"add_trigger_word": "yes"}, 422, "validation_failed"),
        ({"temperature": 1}, 422, "validation_failed"),
    ],
)
async def test_what_cannot_be_is_refused_and_leaves_nothing(
    service: Service, body: dict[str, Any], status: int, code: str
) -> None:
    dataset = await service.dataset()
    before = await service.traces()
    response = await service.client.post(f"/api/datasets/{dataset['id']}/caption", json=FLORENCE | body)
    assert_problem(response, status, code)
    assert await service.traces() == before


async def test_a_captioner_that_is_not_installed_names_what_installs_it(service: Service) -> None:
    await service.pulse_captioners("joycaption")
    dataset = await service.dataset()
    response = await service.client.post(f"/api/datasets/{dataset['id']}/caption", json=FLORENCE)
    assert "masuka install florence-2" in assert_problem(response, 503, "captioner_not_installed")["hint"]


async def test_what_people_wrote_is_a_conflict_with_a_way_out(service: Service) -> None:
    uploaded = (await service.upload({"a.png": png(), "a.txt": b"mine"}, name="me")).json()
    url = f"/api/datasets/{uploaded['id']}/caption"
    problem = assert_problem(await service.client.post(url, json=FLORENCE), 409, "nothing_to_caption")
    assert "everything" in problem["hint"]
    assert (await service.client.post(url, json=FLORENCE | {"overwrite": "everything"})).status_code == 202
