"""`/api/training/{id}/resume`, `/extend`, `/clone`: what is made of a training, and when nothing is."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from PIL import Image

from api.errors import EngineError
from api.models import TrainingCheckpoint
from api.models.base import utcnow
from api.services import checkpoints, continuing
from api.services.continuing import CloneRequest, ExtendRequest
from tests.intake.pictures import encoded
from tests.service import Service, assert_problem
from tests.waiting import until_async


async def store(service: Service, session_id: str, *steps: int) -> None:
    async with service.resources.sessions.begin() as session:
        for step in steps:
            session.add(TrainingCheckpoint(session_id=UUID(session_id), step=step, stored_at=utcnow()))


async def completed(service: Service, *steps: int, **body: Any) -> dict[str, Any]:
    training = await service.training(base_model="flux-tiny", **body)
    await store(service, training["id"], *steps)
    await service.complete(await service.claim())
    return training


async def failed(service: Service, *steps: int) -> dict[str, Any]:
    training = await service.training(base_model="flux-tiny")
    await store(service, training["id"], *steps)
    await service.fail(await service.claim(), EngineError("No memory.", code="out_of_memory"))
    return training


async def act(service: Service, training: dict[str, Any], what: str, body: Any = None, key: str | None = None) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return await service.client.post(f"/api/training/{training['id']}/{what}", json=body, headers=headers)


# ---- resume ------------------------------------------------------------------------------------------------------


async def test_a_failed_training_goes_on_as_the_same_session_with_a_new_job(any_service: Service) -> None:
    training = await failed(any_service, 250, 500)
    answer = await act(any_service, training, "resume", key="once")
    again = await act(any_service, training, "resume", key="once")

    assert (answer.status_code, again.json()) == (201, answer.json())
    resumed = answer.json()
    assert (resumed["id"], resumed["status"], resumed["resumes_from_step"]) == (training["id"], "pending", 500)
    assert resumed["task_id"] != training["task_id"]
    assert resumed["config"] == training["config"]
    assert_problem(await act(any_service, training, "resume"), 409, "session_not_resumable")


async def test_one_without_a_checkpoint_begins_anew_and_says_so(service: Service) -> None:
    training = await service.training()
    await service.client.post(f"/api/training/{training['id']}/cancel")
    assert (await act(service, training, "resume")).json()["resumes_from_step"] == 0


async def test_what_is_completed_or_still_goes_on_is_not_resumed(service: Service) -> None:
    done = await completed(service, 500)
    assert "Extend" in assert_problem(await act(service, done, "resume"), 409, "session_not_resumable")["hint"]
    waiting = await service.training()
    assert_problem(await act(service, waiting, "resume"), 409, "session_not_resumable")


# ---- extend ------------------------------------------------------------------------------------------------------


async def test_a_completed_training_is_extended_as_a_session_of_its_own(any_service: Service) -> None:
    parent = await completed(any_service, 1750, 2000, name="me", trigger_word="ohwx", rank=8)
    answer = await act(any_service, parent, "extend", {"steps": 500, "name": "more"}, key="once")
    again = await act(any_service, parent, "extend", {"steps": 500, "name": "more"}, key="once")

    assert (answer.status_code, again.json()) == (201, answer.json())
    child = answer.json()
    assert child["config"] == parent["config"] | {"steps": 2500}
    assert (child["parent_session_id"], child["start_step"], child["total_steps"]) == (parent["id"], 2000, 2500)
    assert (child["name"], child["status"], child["dataset_id"]) == ("more", "pending", parent["dataset_id"])
    assert (await any_service.client.get(f"/api/training/{parent['id']}")).json()["status"] == "completed"


async def test_without_its_working_state_a_training_is_not_extended(service: Service) -> None:
    parent = await completed(service, 2000)
    async with service.resources.sessions.begin() as session:
        await checkpoints.unmark(session, UUID(parent["id"]))
    before = await service.traces()
    assert (
        "Clone"
        in assert_problem(await act(service, parent, "extend", {"steps": 1}), 409, "training_state_gone")["hint"]
    )
    assert await service.traces() == before


async def test_only_a_completed_training_is_extended_and_only_so_far(service: Service) -> None:
    assert_problem(await act(service, await failed(service, 500), "extend", {"steps": 1}), 409, "session_not_completed")
    parent = await completed(service, 2000)
    assert_problem(await act(service, parent, "extend", {"steps": 99_000}), 422, "steps_too_many")
    for body in ({}, {"steps": 0}, {"steps": "5"}, {"steps": 5, "rank": 8}):
        assert_problem(await act(service, parent, "extend", body), 422, "validation_failed")


async def test_only_the_newest_state_is_left_by_a_completed_training(service: Service) -> None:
    parent = await completed(service, 1500, 2000)
    async with service.resources.sessions.begin() as session:
        await checkpoints.unmark(session, UUID(parent["id"]), keep_newest=True)
        assert [row.step for row in await checkpoints.stored(session, UUID(parent["id"]))] == [2000]


# ---- clone -------------------------------------------------------------------------------------------------------


async def test_a_clone_is_the_same_training_from_its_beginning_but_for_the_changes(any_service: Service) -> None:
    parent = await failed(any_service, 500)
    answer = await act(any_service, parent, "clone", {"rank": 8, "trigger_word": "sks"}, key="once")
    again = await act(any_service, parent, "clone", {"rank": 8, "trigger_word": "sks"}, key="once")

    assert (answer.status_code, again.json()) == (201, answer.json())
    child = answer.json()
    assert child["config"] == parent["config"] | {"rank": 8, "trigger_word": "sks"}
    assert (child["parent_session_id"], child["start_step"]) == (parent["id"], 0)
    assert child["id"] != parent["id"]


async def test_samples_that_nobody_chose_are_of_the_clones_own_trigger_word(service: Service) -> None:
    parent = await service.training(trigger_word="ohwx")
    config = (await act(service, parent, "clone", {"trigger_word": "sks"})).json()["config"]
    assert config["sample_prompts"] == ["a photo of sks", "sks by a lake in the mountains"]

    chosen = await service.training(trigger_word="ohwx", sample_prompts=["ohwx in the rain"])
    config = (await act(service, chosen, "clone", {"trigger_word": "sks"})).json()["config"]
    assert config["sample_prompts"] == ["ohwx in the rain"]
    config = (await act(service, parent, "clone", {"trigger_word": "sks", "sample_prompts": []})).json()["config"]
    assert config["sample_prompts"] == []


async def test_a_clone_without_changes_changes_nothing(service: Service) -> None:
    parent = await service.training(steps=200, lr_warmup_steps=90, preset="40gb-style", seed=7)
    assert (await act(service, parent, "clone", {})).json()["config"] == parent["config"]


async def test_a_preset_goes_before_what_the_parent_had_and_after_what_is_asked_for(service: Service) -> None:
    parent = await service.training(rank=4, seed=7)
    config = (await act(service, parent, "clone", {"preset": "16gb-product", "alpha": 3})).json()["config"]
    assert (config["rank"], config["alpha"], config["seed"], config["preset"]) == (16, 3.0, 7, "16gb-product")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"rnak": 8}, "validation_failed"),
        ({"dataset_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11"}, "validation_failed"),
        ({"preset": "none"}, "preset_unknown"),
        ({"steps": 10, "lr_warmup_steps": 10}, "warmup_too_long"),
        ({"base_model": "flux-huge"}, "base_model_unknown"),
        ({"expert": {"output_dir": "/"}}, "expert_refused"),
    ],
)
async def test_a_clone_that_cannot_be_is_refused_with_nothing_written(
    service: Service, body: dict[str, Any], code: str
) -> None:
    parent = await failed(service)
    before = await service.traces()
    assert_problem(await act(service, parent, "clone", body), 422, code)
    assert await service.traces() == before


async def test_a_deleted_dataset_can_be_trained_on_no_more(service: Service) -> None:
    parent = await completed(service, 2000)
    await service.client.delete(f"/api/datasets/{parent['dataset_id']}")
    assert_problem(await act(service, parent, "clone", {}), 409, "dataset_gone")
    assert_problem(await act(service, parent, "extend", {"steps": 5}), 409, "dataset_gone")


# ---- while the dataset is deleted --------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["resume", "extend", "clone"])
async def test_a_dataset_is_not_deleted_under_a_training_that_is_just_continued(
    any_service: Service, what: str
) -> None:
    parent = await (failed(any_service, 500) if what == "resume" else completed(any_service, 500))
    settings, parent_id = any_service.resources.settings, UUID(parent["id"])
    async with any_service.resources.sessions() as session:
        if what == "resume":
            await continuing.resume(session, parent_id)
        elif what == "extend":
            await continuing.extend(session, settings, {"flux-tiny"}, parent_id, ExtendRequest(steps=5))
        else:
            await continuing.clone(session, settings, {"flux-tiny"}, parent_id, CloneRequest())
        path = f"/api/datasets/{parent['dataset_id']}"
        deletion = asyncio.create_task(any_service.client.delete(path))
        await until_async(lambda: waits_or_is_done(any_service, deletion))
        await session.commit()
    assert_problem(await deletion, 409, "dataset_in_use")
    trainings = (await any_service.client.get("/api/training/")).json()["items"]
    assert {training["dataset_id"] for training in trainings} == {parent["dataset_id"]}


async def waits_or_is_done(service: Service, task: "asyncio.Task[Any]") -> bool:
    async with service.resources.sessions() as session:
        if task.done() or session.get_bind().dialect.name == "sqlite":  # which has one writer
            return True
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(await session.scalar(sa.text(waiting)))


# ---- preflight ---------------------------------------------------------------------------------------------------


async def test_whatever_begins_again_is_looked_at_before(any_service: Service) -> None:
    """The pictures of the version that it is trained on, with its own choices."""
    parent = await completed(any_service, 2000, resolution=512)
    again = await failed(any_service)
    (image,) = (await any_service.client.get(f"/api/datasets/{parent['dataset_id']}")).json()["images"]
    added = {"files": ("blank.png", encoded(Image.new("RGB", (900, 900), "grey"), "PNG"))}
    answer = await any_service.client.post(f"/api/datasets/{parent['dataset_id']}/images", files=added)
    assert answer.status_code == 201, answer.text

    extended = (await act(any_service, parent, "extend", {"steps": 5})).json()
    cloned = (await act(any_service, parent, "clone", {"resolution": 64, "batch_size": 4})).json()
    resumed = (await act(any_service, again, "resume")).json()

    found = [await preflight_of(any_service, each["id"]) for each in (extended, cloned, resumed)]
    assert [each["images"] for each in found] == [1, 1, 1]
    assert [each["repeats"] for each in found] == [0, 3, 0]
    assert found[0]["buckets"] == [{"width": 576, "height": 448, "images": 1}]
    assert "tiny" in found[0]["warnings"]
    assert "tiny" not in found[1]["warnings"]
    assert image["width"] == 64


async def test_nothing_begins_again_on_a_picture_that_is_gone(service: Service) -> None:
    done, broken = await completed(service, 2000), await failed(service, 500)
    for path in (service.settings.masuka_data_dir / "storage" / "datasets").rglob("*.png"):
        path.unlink()
    before = await service.traces()

    for training, what, body in ((done, "extend", {"steps": 5}), (done, "clone", {}), (broken, "resume", None)):
        assert_problem(await act(service, training, what, body), 422, "preflight_failed")
    retried = await service.client.post(f"/api/jobs/{broken['task_id']}/retry")

    (error,) = assert_problem(retried, 422, "preflight_failed")["errors"]
    assert error["type"] == "file_missing"
    assert await service.traces() == before


async def preflight_of(service: Service, session_id: str) -> dict[str, Any]:
    return dict((await service.client.get(f"/api/training/{session_id}")).json()["preflight"])
