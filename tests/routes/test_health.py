"""`/health` and `/ready`."""

import json
from uuid import UUID

import pytest
import redis

from api.domain.gpu_gate import GpuGate, Use
from api.domain.job import Kind, Queue
from api.services.workers import pulse_key
from api.settings import Settings
from tests.servers import valkey_server
from tests.service import Service, serving, with_values


async def _ready(service: Service) -> tuple[int, set[str]]:
    """Status, and the parts that are not ready."""
    response = await service.client.get("/ready")
    body = response.json()
    assert body["ready"] == (response.status_code == 200)
    return response.status_code, {name for name, part in body["parts"].items() if not part["ok"]}


async def test_the_root_names_the_service_and_the_way_on(service: Service) -> None:
    body = (await service.client.get("/")).json()
    assert body["name"] == "MASUKA"
    assert (await service.client.get(body["docs"])).status_code == 200


async def test_it_is_alive_without_any_worker(service: Service) -> None:
    response = await service.client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_it_is_ready_when_both_workers_live_and_comfyui_sleeps(any_service: Service) -> None:
    await any_service.pulse("flux-tiny", "flux-dev", comfyui="asleep")
    response = await any_service.client.get("/ready")
    assert response.status_code == 200
    assert response.json()["base_models"] == ["flux-dev", "flux-tiny"]
    assert response.json()["parts"]["comfyui"] == {"ok": True, "detail": "asleep"}


async def test_without_workers_it_is_not_ready_and_says_how_to_start_them(service: Service) -> None:
    response = await service.client.get("/ready")
    assert response.status_code == 503
    parts = response.json()["parts"]
    assert {name for name, part in parts.items() if not part["ok"]} == {"worker_cpu", "worker_gpu", "comfyui"}
    assert "masuka worker cpu" in parts["worker_cpu"]["detail"]


@pytest.mark.parametrize("queue", Queue)
async def test_one_missing_worker_is_enough_not_to_be_ready(service: Service, queue: Queue) -> None:
    await service.pulse("flux-tiny", queues=set(Queue) - {queue})
    status, missing = await _ready(service)
    assert (status, f"worker_{queue}" in missing) == (503, True)


async def test_a_comfyui_that_failed_is_not_ready(service: Service) -> None:
    await service.pulse("flux-tiny", comfyui="failed")
    assert await _ready(service) == (503, {"comfyui"})


async def test_a_storage_that_cannot_be_written_is_not_ready(service: Service) -> None:
    await service.pulse("flux-tiny")
    storage = service.settings.masuka_data_dir / "storage"
    storage.rename(storage.with_name("moved"))
    storage.write_text("a file where the folder was")
    assert await _ready(service) == (503, {"storage"})


async def test_without_redis_it_still_answers_what_is_missing(settings: Settings) -> None:
    with valkey_server() as server:
        async with serving(with_values(settings, redis_url=server.url)) as service:
            await service.pulse("flux-tiny")
            assert (await _ready(service))[0] == 200
            with redis.Redis.from_url(server.url) as client:
                client.shutdown(nosave=True)
            status, missing = await _ready(service)
            assert (status, "redis" in missing, "database" in missing) == (503, True, False)
            assert (await service.client.get("/health")).status_code == 200
            assert (await service.client.get("/api/datasets/")).status_code == 200


async def test_it_tells_who_holds_the_gpu(service: Service) -> None:
    await service.pulse("flux-tiny")
    assert (await service.client.get("/ready")).json()["gpu"] is None
    gate = GpuGate()
    gate.enter(Use(UUID(int=7), Kind.TRAINING))
    said = json.dumps({"comfyui": "asleep", "bases": [], "gpu": gate.state()})
    await service.resources.redis.set(pulse_key(Queue.GPU), said)

    found = (await service.client.get("/ready")).json()["gpu"]

    assert found == {"mode": "alone", "jobs": [{"id": str(UUID(int=7)), "kind": "training"}]}
