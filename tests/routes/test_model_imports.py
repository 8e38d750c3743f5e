"""`/api/models/import`: LoRAs recognised by what is in them, kept once, or asked for from the web."""

import hashlib
from typing import Any
from uuid import UUID

import pytest

from api.domain.job import Kind, Queue
from api.models import Job
from api.settings import Settings
from tests.service import NOBODY, Service, assert_problem, serving, tiny_lora, tiny_tensors, with_values
from tests.trainer.lora_files import file_bytes, pair

URL = "https://files.example/loras/My%20Face.safetensors?token=secret"
SDXL = pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", rank=4, out=640, inner=2048)
HUB = {"repo": "owner/loras", "file": "flux/ohwx.safetensors"}
SHA256 = "ab" * 32


async def upload(service: Service, data: bytes, **fields: str) -> Any:
    files = {"files": ("a.safetensors", data)}
    return await service.client.post("/api/models/import", data={"name": "me", **fields}, files=files)


async def from_web(service: Service, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await service.client.post("/api/models/import", json=body, headers=headers)


# ---- by upload -----------------------------------------------------------------------------------------------------


async def test_an_upload_is_recognised_by_its_keys_and_shapes(service: Service) -> None:
    model = (await upload(service, tiny_lora())).json()
    assert (model["base_model"], model["model_type"], model["duplicate"]) == ("flux-tiny", "flux_image", False)
    big = (await upload(service, file_bytes(pair("transformer.proj_out", out=64, inner=3072)))).json()
    assert (big["base_model"], big["model_type"]) == ("flux-dev", "flux_image")  # without its 24 GB of weights


async def test_a_lora_of_another_family_is_kept_and_never_drawn_with(service: Service) -> None:
    await service.pulse("flux-dev", "flux-tiny")
    model = (await upload(service, file_bytes(SDXL))).json()
    assert (model["base_model"], model["model_type"]) == ("sdxl", "sdxl_image")
    found = await service.client.get("/api/models/", params={"model_type": "sdxl_image"})
    assert [item["id"] for item in found.json()["items"]] == [model["id"]]
    flux = (await upload(service, tiny_lora())).json()
    for body, code in (
        ({"base_model": "flux-tiny"}, "lora_base_mismatch"),
        ({"base_model": "flux-dev"}, "lora_base_mismatch"),
        ({}, "lora_family_unsupported"),
        ({"base_model": "sdxl"}, "lora_family_unsupported"),
        ({"model_id": flux["id"], "loras": [{"model_id": model["id"]}]}, "lora_base_mismatch"),
    ):
        wish = {"prompt": "a photo", "model_id": model["id"], **body}
        before = await service.traces()
        problem = assert_problem(await service.client.post("/api/generate/image", json=wish), 422, code)
        assert problem["value"] in ("sdxl", "flux-tiny")
        assert await service.traces() == before


async def test_the_trigger_word_is_the_files_own_unless_one_is_given(service: Service) -> None:
    data = file_bytes(tiny_tensors(), {"modelspec.trigger_phrase": "sks dog"})
    assert (await upload(service, data)).json()["trigger_word"] == "sks dog"
    other = file_bytes(tiny_tensors(8), {"modelspec.trigger_phrase": "sks dog"})
    assert (await upload(service, other, trigger_word="ohwx")).json()["trigger_word"] == "ohwx"


async def test_a_content_that_is_here_is_not_kept_twice(any_service: Service) -> None:
    first = (await upload(any_service, tiny_lora(), trigger_word="ohwx")).json()
    before = await any_service.traces()
    again = await upload(any_service, tiny_lora(), name="other", trigger_word="sks")
    assert (again.status_code, again.json()) == (201, first | {"duplicate": True})
    assert await any_service.traces() == before
    assert (await upload(any_service, tiny_lora(8))).json()["duplicate"] is False


async def test_a_content_whose_model_or_file_is_gone_is_kept_again(service: Service) -> None:
    deleted = (await upload(service, tiny_lora())).json()
    await service.client.delete(f"/api/models/{deleted['id']}")
    lost = (await upload(service, tiny_lora())).json()
    assert lost["id"] != deleted["id"]
    await service.resources.storage.delete(await service.lora_key(lost["id"]))
    found = (await upload(service, tiny_lora())).json()
    assert (found["duplicate"], found["version"]) == (False, 3)


async def test_a_pickle_that_calls_itself_safetensors_is_refused(service: Service) -> None:
    before = await service.traces()
    assert_problem(await upload(service, b"\x80\x04\x95" + b"cos\nsystem\n(S'true'\ntR." * 20), 422, "lora_invalid")
    assert_problem(await upload(service, tiny_lora()[:-1]), 422, "lora_invalid")
    assert_problem(await upload(service, file_bytes(pair("my.own.layer"))), 422, "lora_family_unknown")
    assert await service.traces() == before


async def test_an_upload_must_be_what_it_is_said_to_be(service: Service) -> None:
    assert_problem(await upload(service, tiny_lora(), sha256=SHA256), 422, "hash_mismatch")
    assert_problem(await upload(service, tiny_lora(), sha256="ab"), 422, "validation_failed")
    right = hashlib.sha256(tiny_lora()).hexdigest()
    assert (await upload(service, tiny_lora(), sha256=right.upper())).status_code == 201


async def test_a_lora_has_a_limit_of_its_own(settings: Settings, valkey_url: str) -> None:
    data = file_bytes(tiny_tensors(), {"note": "x" * 1_500_000})
    async with serving(with_values(settings, redis_url=valkey_url, masuka_max_lora_mb=1)) as service:
        problem = assert_problem(await upload(service, data), 413, "file_too_large")
        assert "MASUKA_MAX_LORA_MB" in problem["hint"]


# ---- from the web --------------------------------------------------------------------------------------------------


async def test_an_import_from_the_web_is_a_job_of_the_cpu_worker(any_service: Service) -> None:
    answer = await from_web(any_service, url=URL)
    assert answer.status_code == 202
    started = answer.json()
    row = (await any_service.client.get(f"/api/models/imports/{started['import_id']}")).json()
    assert (row["status"], row["name"], row["model_id"], row["duplicate"]) == ("pending", "My Face", None, False)
    assert row["source"] == {"url": "https://files.example/loras/My%20Face.safetensors"}
    async with any_service.resources.sessions() as session:
        job = await session.get_one(Job, UUID(started["task_id"]))
    assert (job.kind, job.queue) == (Kind.IMPORT.value, Queue.CPU.value)
    job_seen = (await any_service.client.get(f"/api/jobs/{started['task_id']}")).json()
    assert (job_seen["kind"], job_seen["status"]) == ("import", "pending")
    cancelled = await any_service.client.post(f"/api/jobs/{started['task_id']}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    stream = await any_service.client.get(f"/api/progress/stream/{started['import_id']}")
    assert '"status": "cancelled"' in stream.text
    listed = await any_service.client.get("/api/models/imports/", params={"status": "cancelled"})
    assert [item["id"] for item in listed.json()["items"]] == [started["import_id"]]
    again = await any_service.client.post(f"/api/jobs/{started['task_id']}/retry")
    assert again.status_code == 201
    row = (await any_service.client.get(f"/api/models/imports/{started['import_id']}")).json()
    assert (row["status"], row["task_id"]) == ("pending", again.json()["id"])


async def test_an_import_from_the_hub_is_named_after_its_file(service: Service) -> None:
    started = (await from_web(service, **HUB, sha256=SHA256, base_model="flux-tiny", trigger_word="ohwx")).json()
    row = (await service.client.get(f"/api/models/imports/{started['import_id']}")).json()
    assert row["source"] == {**HUB, "revision": "main"}
    assert (row["name"], row["sha256"], row["base_model"]) == ("ohwx", SHA256, "flux-tiny")


async def test_one_key_makes_one_import(service: Service) -> None:
    first = await from_web(service, "key", url=URL)
    again = await from_web(service, "key", url=URL)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(await from_web(service, "key", **HUB), 409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "validation_failed"),
        ({"url": URL, **HUB}, 422, "validation_failed"),
        ({"repo": "owner/loras"}, 422, "validation_failed"),
        ({"url": URL, "file": "a.safetensors"}, 422, "validation_failed"),
        ({"url": URL, "name": "a\nb"}, 422, "validation_failed"),
        ({"url": URL, "sha256": "ab"}, 422, "validation_failed"),
        ({"url": URL, "path": "/etc/passwd"}, 422, "validation_failed"),
        ({"repo": "../loras", "file": "a.safetensors"}, 422, "validation_failed"),
        ({"repo": "owner/loras", "file": "../../a.safetensors"}, 422, "validation_failed"),
        ({"repo": "owner/loras", "file": "/a.safetensors"}, 422, "validation_failed"),
        ({"repo": "owner/loras", "file": "a?b=.safetensors"}, 422, "validation_failed"),
        ({"repo": "owner/loras", "file": "model.ckpt"}, 422, "validation_failed"),
        ({**HUB, "revision": "../main"}, 422, "validation_failed"),
        ({"url": "http://files.example/a"}, 422, "url_not_allowed"),
        ({"url": "https://127.0.0.1/a"}, 422, "url_not_allowed"),
        ({"url": "https://[::ffff:169.254.169.254]/latest/meta-data"}, 422, "url_not_allowed"),
        ({"url": "https://files.example:22/a"}, 422, "url_not_allowed"),
        ({"url": "file:///etc/passwd"}, 422, "url_not_allowed"),
        ({"url": URL, "base_model": "sdxl"}, 422, "base_model_unknown"),
        ({"url": URL, "base_model": "flux-dev"}, 503, "base_model_not_installed"),
    ],
)
async def test_a_wrong_import_is_refused_and_leaves_nothing(
    service: Service, body: dict[str, Any], status: int, code: str
) -> None:
    before = await service.traces()
    assert_problem(await from_web(service, **body), status, code)
    assert await service.traces() == before


@pytest.mark.parametrize(("body", "status", "code"), [
    (b"{", 422, "body_not_json"),
    (b"\xff", 422, "body_not_json"),
    (b"[" * 100_000, 422, "body_not_json"),
    (b"[]", 422, "validation_failed"),
    (b" " * 1_000_001, 413, "body_too_large"),
])  # fmt: skip
async def test_a_body_that_is_no_import_is_refused(service: Service, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert_problem(await service.client.post("/api/models/import", content=body, headers=headers), status, code)


async def test_an_unknown_import_is_not_found(service: Service) -> None:
    assert_problem(await service.client.get(f"/api/models/imports/{NOBODY}"), 404, "import_not_found")
