"""`/api/training`: a training asked for, looked at and cancelled."""

from typing import Any
from uuid import UUID

from api.domain.progress import Snapshot
from api.errors import EngineError
from api.models import TrainingCheckpoint
from api.models.base import utcnow
from api.services import jobs
from api.settings import Settings
from tests.service import Service, assert_problem, serving, with_values


async def test_everything_but_the_dataset_has_a_default(any_service: Service) -> None:
    dataset = await any_service.dataset("portraits", trigger_word="ohwx")
    training = await any_service.training(dataset_id=dataset["id"])
    assert (training["status"], training["name"], training["dataset_id"]) == ("pending", "portraits", dataset["id"])
    expected: dict[str, Any] = {
        "steps": 2000,
        "rank": 32,
        "alpha": 16.0,
        "learning_rate": 1e-4,
        "resolution": 1024,
        "batch_size": 1,
    }
    expected |= {"base_model": "flux-dev", "trigger_word": "ohwx", "checkpoint_interval": 250, "dropout": 0.0}
    assert expected.items() <= training["config"].items()
    assert training["total_steps"] == 2000
    assert (await any_service.client.get(f"/api/training/{training['id']}")).json()["job"]["status"] == "pending"


async def test_defaults_are_the_installations_own(settings: Settings, valkey_url: str) -> None:
    own: dict[str, Any] = {
        "default_flux_steps": 20,
        "default_flux_rank": 4,
        "default_flux_alpha": 2,
        "default_resolution": 64,
    }
    own |= {"masuka_base_model": "flux-tiny", "redis_url": valkey_url}
    async with serving(with_values(settings, **own)) as service:
        config = (await service.training())["config"]
    assert {"steps": 20, "rank": 4, "alpha": 2.0, "resolution": 64, "base_model": "flux-tiny"}.items() <= config.items()


async def test_what_the_request_says_goes_before_every_default(service: Service) -> None:
    asked: dict[str, Any] = {"network_dim": 8, "network_alpha": 4, "steps": 10, "trigger_word": "sks", "name": "mine"}
    training = await service.training(base_model="flux-tiny", **asked)
    assert training["name"] == "mine"
    expected = {"rank": 8, "alpha": 4.0, "steps": 10, "trigger_word": "sks", "base_model": "flux-tiny"}
    assert expected.items() <= training["config"].items()


async def test_the_training_checkpoints_in_storage_are_shown_newest_first(any_service: Service) -> None:
    training = await any_service.training()
    async with any_service.resources.sessions.begin() as session:
        for step, size, stored_at in ((250, 3_000_000_000, utcnow()), (500, 1024**2, utcnow()), (750, 0, None)):
            row = TrainingCheckpoint(session_id=UUID(training["id"]), step=step, size_bytes=size, stored_at=stored_at)
            session.add(row)

    shown = (await any_service.client.get(f"/api/training/{training['id']}")).json()["checkpoints"]

    assert [(each["step"], each["size_mb"]) for each in shown] == [(500, 1.0), (250, 2861.023)]
    assert all(each["created_at"] for each in shown)


async def test_progress_and_failure_are_shown_on_the_session(any_service: Service) -> None:
    training = await any_service.training()
    lease = await any_service.claim()
    snapshot = Snapshot("training", progress=25, step=5, total_steps=20, loss=0.5)
    async with any_service.resources.sessions.begin() as session:
        await jobs.save_progress(session, lease, snapshot)
    path = f"/api/training/{training['id']}"
    shown = (await any_service.client.get(path)).json()
    assert (shown["status"], shown["progress"], shown["current_step"], shown["total_steps"]) == ("training", 25, 5, 20)
    assert (shown["current_loss"], shown["started_at"] is not None, shown["completed_at"]) == (0.5, True, None)
    await any_service.fail(lease, EngineError("No memory.", code="out_of_memory", hint="Less.", log_tail="CUDA ..."))
    shown = (await any_service.client.get(path)).json()
    assert (shown["status"], shown["error_message"]) == ("failed", "No memory.")
    job = shown["job"]
    assert (job["error_code"], job["error_hint"], job["log_tail"]) == ("out_of_memory", "Less.", "CUDA ...")


async def test_a_waiting_training_is_cancelled_at_once_and_for_good(any_service: Service) -> None:
    training = await any_service.training()
    path = f"/api/training/{training['id']}/cancel"
    first = await any_service.client.post(path)
    again = await any_service.client.post(path)
    assert [(answer.status_code, answer.json()["status"]) for answer in (first, again)] == [(200, "cancelled")] * 2
    assert first.json()["completed_at"] == again.json()["completed_at"] is not None


async def test_a_running_training_is_asked_to_stop_once(service: Service) -> None:
    training = await service.training()
    lease = await service.claim()
    for _ in range(2):
        response = await service.client.post(f"/api/training/{training['id']}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "training")
    async with service.resources.sessions.begin() as session:
        await jobs.cancel(session, lease)
    response = await service.client.post(f"/api/training/{training['id']}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_a_finished_training_cannot_be_cancelled(service: Service) -> None:
    training = await service.training()
    await service.complete(await service.claim())
    response = await service.client.post(f"/api/training/{training['id']}/cancel")
    assert_problem(response, 409, "job_finished")


async def test_every_cancel_stops_exactly_that_one(service: Service) -> None:
    kept, cancelled = await service.training(), await service.training()
    await service.client.post(f"/api/training/{cancelled['id']}/cancel")
    listed = (await service.client.get("/api/training/")).json()["items"]
    assert {item["id"]: item["status"] for item in listed} == {kept["id"]: "pending", cancelled["id"]: "cancelled"}
