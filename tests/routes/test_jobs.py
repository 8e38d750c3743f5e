"""`/api/jobs`: the queue as it is, cancel and retry."""

import pytest

from api.errors import EngineError
from tests.service import Service, assert_problem


async def _failed(service: Service) -> dict[str, str]:
    answer = await service.pictures()
    await service.fail(await service.claim(), EngineError("It failed.", code="engine_failed"))
    return {"asset": answer["asset_id"], "job": answer["task_id"]}


async def test_a_job_tells_what_happened_to_it(any_service: Service) -> None:
    failed = await _failed(any_service)
    job = (await any_service.client.get(f"/api/jobs/{failed['job']}")).json()
    assert (job["kind"], job["queue"], job["status"], job["attempt"]) == ("image", "gpu", "failed", 1)
    assert (job["error_code"], job["error_message"]) == ("engine_failed", "It failed.")
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]


async def test_a_retry_is_a_new_job_that_the_asset_then_points_at(any_service: Service) -> None:
    failed = await _failed(any_service)
    response = await any_service.client.post(f"/api/jobs/{failed['job']}/retry")
    assert response.status_code == 201
    new = response.json()
    assert (new["status"], new["retry_of"], new["error_message"]) == ("pending", failed["job"], None)
    asset = (await any_service.client.get(f"/api/assets/{failed['asset']}")).json()
    assert (asset["status"], asset["task_id"], asset["error_message"]) == ("pending", new["id"], None)
    assert asset["completed_at"] is None
    assert (await any_service.client.get(f"/api/jobs/{failed['job']}")).json()["status"] == "failed"
    assert str((await any_service.claim()).job_id) == new["id"]


async def test_a_retried_job_is_not_retried_again(service: Service) -> None:
    failed = await _failed(service)
    assert (await service.client.post(f"/api/jobs/{failed['job']}/retry")).status_code == 201
    assert_problem(await service.client.post(f"/api/jobs/{failed['job']}/retry"), 409, "job_superseded")


async def test_a_job_whose_asset_was_deleted_is_not_retried(service: Service) -> None:
    failed = await _failed(service)
    await service.client.delete(f"/api/assets/{failed['asset']}")
    before = await service.traces()
    assert_problem(await service.client.post(f"/api/jobs/{failed['job']}/retry"), 409, "job_superseded")
    assert await service.traces() == before


@pytest.mark.parametrize("state", ["pending", "generating", "completed"])
async def test_only_what_failed_or_was_cancelled_is_retried(service: Service, state: str) -> None:
    job = (await service.pictures())["task_id"]
    if state != "pending":
        lease = await service.claim()
        if state == "completed":
            await service.complete(lease)
    problem = assert_problem(await service.client.post(f"/api/jobs/{job}/retry"), 409, "job_not_retryable")
    assert state in problem["detail"]


async def test_a_job_is_cancelled_like_what_it_is_for(any_service: Service) -> None:
    answer = await any_service.pictures()
    for _ in range(2):
        response = await any_service.client.post(f"/api/jobs/{answer['task_id']}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    asset = (await any_service.client.get(f"/api/assets/{answer['asset_id']}")).json()
    assert (asset["status"], asset["completed_at"] is not None) == ("cancelled", True)
    assert (await any_service.client.post(f"/api/jobs/{answer['task_id']}/retry")).status_code == 201


@pytest.mark.parametrize("end", ["complete", "fail"])
async def test_a_job_that_ended_another_way_cannot_be_cancelled(service: Service, end: str) -> None:
    job = (await service.pictures())["task_id"]
    lease = await service.claim()
    await (service.complete(lease) if end == "complete" else service.fail(lease, EngineError("It failed.")))
    assert_problem(await service.client.post(f"/api/jobs/{job}/cancel"), 409, "job_finished")


async def test_whatever_waits_says_where_it_stands_and_behind_what(any_service: Service) -> None:
    training = await any_service.training(name="ohwx")
    assert (training["queue_position"], training["message"]) == (1, "Waiting: next in the queue")
    pictures = await any_service.pictures(num_images=2)
    await any_service.claim()

    for path, position in (
        (f"/api/jobs/{pictures['task_id']}", 1),
        (f"/api/assets/{pictures['asset_ids'][1]}", 2),
    ):
        told = (await any_service.client.get(path)).json()
        assert (told["queue_position"], told["eta_seconds"]) == (position, None)
        assert "in the queue, behind the training 'ohwx'" in told["message"]
    listed = (await any_service.client.get("/api/assets/")).json()["items"]
    assert [asset["queue_position"] for asset in listed] == [2, 1]
    running = (await any_service.client.get(f"/api/training/{training['id']}")).json()
    assert (running["queue_position"], running["job"]["message"]) == (None, None)


async def test_a_session_that_waits_stands_where_its_job_does(service: Service) -> None:
    await service.pictures()
    training = await service.training()

    told = (await service.client.get(f"/api/training/{training['id']}")).json()

    assert (told["queue_position"], told["job"]["queue_position"]) == (2, 2)
    (listed,) = (await service.client.get("/api/training/")).json()["items"]
    assert (listed["queue_position"], listed["message"]) == (2, "Waiting: 2nd in the queue")
