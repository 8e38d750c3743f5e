"""What cannot be carried out is refused by name, and leaves nothing behind."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from api.routes.guard import MAX_JSON_BYTES
from api.services.pages import encode_cursor
from tests.service import NOBODY, Service, assert_problem

JSON = {"Content-Type": "application/json"}
TRAIN, GENERATE = "/api/training/flux", "/api/generate/image"


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind(service: Service) -> AsyncIterator[None]:
    await service.pulse("flux-dev", "flux-tiny")
    before = await service.traces()
    yield
    assert await service.traces() == before


# ---- ids -----------------------------------------------------------------------------------------------------------

BY_ID = [
    ("GET", "/api/datasets/{}", "dataset_not_found"),
    ("PATCH", "/api/datasets/{}", "dataset_not_found"),
    ("DELETE", "/api/datasets/{}", "dataset_not_found"),
    ("GET", "/api/datasets/{}/images", "dataset_not_found"),
    ("POST", "/api/datasets/{}/images", "dataset_not_found"),
    ("GET", "/api/datasets/{}/images/{}", "dataset_not_found"),
    ("PUT", "/api/datasets/{}/images/{}", "dataset_not_found"),
    ("DELETE", "/api/datasets/{}/images/{}", "dataset_not_found"),
    ("GET", "/api/datasets/{}/images/{}/file", "dataset_not_found"),
    ("GET", "/api/datasets/{}/images/{}/thumbnail", "dataset_not_found"),
    ("GET", "/api/datasets/{}/captions", "dataset_not_found"),
    ("PATCH", "/api/datasets/{}/captions", "dataset_not_found"),
    ("PUT", "/api/datasets/{}/captions/{}", "dataset_not_found"),
    ("POST", "/api/datasets/{}/captions/replace", "dataset_not_found"),
    ("GET", "/api/datasets/{}/captions/edits", "dataset_not_found"),
    ("POST", "/api/datasets/{}/captions/undo", "dataset_not_found"),
    ("GET", "/api/datasets/{}/versions", "dataset_not_found"),
    ("POST", "/api/datasets/{}/versions", "dataset_not_found"),
    ("GET", "/api/datasets/{}/versions/{}", "dataset_not_found"),
    ("POST", "/api/datasets/{}/versions/{}/restore", "dataset_not_found"),
    ("DELETE", "/api/datasets/{}/versions/{}", "dataset_not_found"),
    ("GET", "/api/datasets/{}/export", "dataset_not_found"),
    ("POST", "/api/datasets/{}/caption", "dataset_not_found"),
    ("GET", "/api/captionings/{}", "captioning_not_found"),
    ("GET", "/api/captionings/{}/images", "captioning_not_found"),
    ("GET", "/api/datasets/{}/preflight", "dataset_not_found"),
    ("GET", "/api/datasets/{}/preflight.png", "dataset_not_found"),
    ("GET", "/api/training/{}", "session_not_found"),
    ("POST", "/api/training/{}/cancel", "session_not_found"),
    ("POST", "/api/training/{}/resume", "session_not_found"),
    ("POST", "/api/training/{}/extend", "session_not_found"),
    ("POST", "/api/training/{}/clone", "session_not_found"),
    ("GET", "/api/training/{}/checkpoints", "session_not_found"),
    ("DELETE", "/api/training/{}/checkpoints", "session_not_found"),
    ("GET", "/api/training/{}/checkpoints/1", "session_not_found"),
    ("DELETE", "/api/training/{}/checkpoints/1", "session_not_found"),
    ("GET", "/api/training/{}/checkpoints/1/file", "session_not_found"),
    ("POST", "/api/training/{}/checkpoints/1/promote", "session_not_found"),
    ("POST", "/api/training/{}/grid", "session_not_found"),
    ("GET", "/api/training/{}/samples", "session_not_found"),
    ("GET", "/api/training/{}/samples.png", "session_not_found"),
    ("GET", "/api/training/{}/metrics", "session_not_found"),
    ("GET", "/api/training/{}/metrics.png", "session_not_found"),
    ("GET", "/api/training/{}/log", "session_not_found"),
    ("POST", "/api/training/{}/checkpoint", "session_not_found"),
    ("POST", "/api/training/{}/sample", "session_not_found"),
    ("GET", "/api/progress/stream/{}", "stream_not_found"),
    ("GET", "/api/assets/{}", "asset_not_found"),
    ("GET", "/api/assets/{}/file", "asset_not_found"),
    ("GET", "/api/assets/{}/thumbnail", "asset_not_found"),
    ("GET", "/api/assets/{}/recreate", "asset_not_found"),
    ("PATCH", "/api/assets/{}", "asset_not_found"),
    ("GET", "/api/assets/{}/canvas", "asset_not_found"),
    ("DELETE", "/api/assets/{}", "asset_not_found"),
    ("POST", "/api/assets/{}/restore", "asset_not_found"),
    ("POST", "/api/assets/{}/cancel", "asset_not_found"),
    ("GET", "/api/batches/{}", "batch_not_found"),
    ("GET", "/api/batches/{}/sheet", "batch_not_found"),
    ("POST", "/api/batches/{}/cancel", "batch_not_found"),
    ("GET", "/api/models/{}", "model_not_found"),
    ("GET", "/api/models/{}/file", "model_not_found"),
    ("GET", "/api/models/{}/card", "model_not_found"),
    ("GET", "/api/models/{}/card.md", "model_not_found"),
    ("PATCH", "/api/models/{}", "model_not_found"),
    ("DELETE", "/api/models/{}", "model_not_found"),
    ("POST", "/api/models/{}/restore", "model_not_found"),
    ("GET", "/api/models/imports/{}", "import_not_found"),
    ("GET", "/api/jobs/{}", "job_not_found"),
    ("POST", "/api/jobs/{}/cancel", "job_not_found"),
    ("POST", "/api/jobs/{}/retry", "job_not_found"),
    ("GET", "/api/webhooks/deliveries/{}", "delivery_not_found"),
    ("POST", "/api/webhooks/deliveries/{}/redeliver", "delivery_not_found"),
]


BODIES: dict[str, dict[str, Any]] = {
    "/api/datasets/{}/caption": {"captioner": "florence-2"},
    "/api/datasets/{}/captions": {"captions": [{"image_id": NOBODY, "caption": "x"}]},
    "/api/datasets/{}/captions/{}": {"caption": "x"},
    "/api/datasets/{}/captions/replace": {"find": "x"},
    "/api/training/{}/extend": {"steps": 1},
    "/api/training/{}/clone": {"steps": 1},
    "/api/training/{}/grid": {"prompts": ["x"]},
    "/api/training/{}/checkpoints/1/promote": {},
}
"""Of routes that look at an id only with a body that is right."""


@pytest.mark.parametrize(("method", "path", "code"), BY_ID)
async def test_an_unknown_id_is_not_found(service: Service, method: str, path: str, code: str) -> None:
    sent = BODIES.get(path, {} if method == "PATCH" else None)
    response = await service.client.request(method, path.replace("{}", NOBODY), json=sent)
    body = assert_problem(response, 404, code)
    assert body["value"] == NOBODY


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in BY_ID])
async def test_a_malformed_id_is_refused(service: Service, method: str, path: str) -> None:
    for junk in ("nonsense", "1", f"{NOBODY}0", "%00", "%ff", "x" * 5000):
        response = await service.client.request(method, path.replace("{}", junk))
        assert assert_problem(response, 422, "validation_failed")["errors"][0]["loc"][0] == "path"


async def test_every_route_with_an_id_is_tried_here(service: Service) -> None:
    paths = service.app.openapi()["paths"]
    found = {(method.upper(), path) for path, item in paths.items() if "_id}" in path for method in item}
    assert {(method, path.partition("{")[0]) for method, path in found} == {
        (method, path.partition("{")[0]) for method, path, _ in BY_ID
    }
    assert len(found) == len(BY_ID)


async def test_training_on_an_unknown_dataset_is_not_found(service: Service) -> None:
    assert_problem(await service.client.post(TRAIN, json={"dataset_id": NOBODY}), 404, "dataset_not_found")


@pytest.mark.parametrize("body", [{"model_id": NOBODY}, {"loras": [{"model_id": NOBODY}]}])
async def test_a_picture_with_an_unknown_lora_is_not_found(service: Service, body: dict[str, Any]) -> None:
    assert_problem(await service.client.post(GENERATE, json={"prompt": "x", **body}), 404, "model_not_found")


# ---- fields --------------------------------------------------------------------------------------------------------

NOT_WHOLE = ("true", '"7"', "1.5", "[]", "NaN", "Infinity", "1e999")
NOT_A_NUMBER = ("true", '"1.5"', "[]", "NaN", "Infinity", "-Infinity", "1e999")
BAD_TRAINING = {
    "steps": ("0", "-1", "100001", *NOT_WHOLE),
    "rank": ("0", "257", *NOT_WHOLE),
    "network_dim": ("0", "257", "true"),
    "alpha": ("0", "-1", "513", *NOT_A_NUMBER),
    "network_alpha": ("0",),
    "learning_rate": ("0", "-0.1", "1.1", *NOT_A_NUMBER),
    "resolution": ("0", "63", "100", "2112", "1e3", *NOT_WHOLE),
    "batch_size": ("0", "65", *NOT_WHOLE),
    "seed": ("-1", str(2**53), str(2**64), *NOT_WHOLE),
    "dropout": ("-0.1", "1", "NaN"),
    "caption_dropout": ("1.1", "NaN"),
    "lr_scheduler": ('"nonsense"', "1"),
    "optimizer": ('"nonsense"',),
    "trigger_word": ('"a\\u0000b"', '"a\\nb"', '"\\ud800"', '"' + "x" * 101 + '"', "1"),
    "name": ('""', '"   "', '"a\\u0000b"', '"a\\nb"', '"\\udfff"', '"' + "x" * 101 + '"', "1"),
    "base_model": ('""', '"a\\u0000b"', "1"),
    "dataset_id": ('"nonsense"', "1", "null", "true", '""'),
    "stepz": ("100",),
    "user_id": ('"me"',),
}
BAD_GENERATION = {
    "prompt": ('"' + "x" * 10_000 + '"', '"a\\u0000b"', '"\\ud800"', '"\\udc00\\ud800"', "null", "1", "[]"),
    "negative_prompt": ('"' + "x" * 10_000 + '"', '"a\\u0000b"', '"\\ud800"', "null"),
    "num_inference_steps": ("0", "201", *NOT_WHOLE),
    "guidance_scale": ("-0.1", "101", *NOT_A_NUMBER),
    "true_cfg_scale": ("0.9", "101", *NOT_A_NUMBER),
    "width": ("0", "-16", "15", "1000", "1025", str(16 * 10**6), "1" + "0" * 4000, *NOT_WHOLE),
    "height": ("0", "-16", "15", "1000", "1025", *NOT_WHOLE),
    "seed": ("-1", str(2**53), str(2**64), *NOT_WHOLE),
    "lora_scale": ("-2.1", "2.1", *NOT_A_NUMBER),
    "num_images": ("0", "-1", "101", *NOT_WHOLE),
    "model_id": ('"nonsense"', "1", "true"),
    "loras": ("{}", "null", '[{"model_id": "x"}]', f'[{{"model_id": "{NOBODY}", "scale": NaN}}]', "[{}]"),
    "base_model": ('""', '"a\\u0000b"', "1"),
    "workflow": ('"a\\u0000b"', "1"),
    "webhook_url": ('"https://x/\\u0000"', '"https://x/' + "x" * 2000 + '"', "1", "[]"),
    "width\\u0000": ("64",),
    "x" * 1000: ("1",),
}


async def _refused(service: Service, path: str, required: dict[str, Any], field: str, values: tuple[str, ...]) -> None:
    others = "".join(f"{json.dumps(name)}: {json.dumps(value)}, " for name, value in required.items() if name != field)
    for value in values:
        response = await service.client.post(path, content=f'{{{others}"{field}": {value}}}', headers=JSON)
        problem = assert_problem(response, 422, "validation_failed")
        wrong = {str(part) for error in problem["errors"] for part in error["loc"]}
        assert wrong & {field, field.encode().decode("unicode_escape"), f"{field[:200]}…"}, (value, problem)


@pytest.mark.parametrize("field", BAD_TRAINING)
async def test_a_wrong_field_of_a_training_is_refused_by_name(service: Service, field: str) -> None:
    await _refused(service, TRAIN, {"dataset_id": NOBODY}, field, BAD_TRAINING[field])


@pytest.mark.parametrize("field", BAD_GENERATION, ids=lambda field: field[:30])
async def test_a_wrong_field_of_a_picture_is_refused_by_name(service: Service, field: str) -> None:
    await _refused(service, GENERATE, {"prompt": "x"}, field, BAD_GENERATION[field])


async def test_what_is_missing_is_named(service: Service) -> None:
    for path, field in ((TRAIN, "dataset_id"), (GENERATE, "prompt")):
        problem = assert_problem(await service.client.post(path, json={}), 422, "validation_failed")
        assert problem["errors"][0]["loc"] == ["body", field]


async def test_every_wrong_field_is_named_at_once(service: Service) -> None:
    body = {"width": 5, "prompt": 1, "unknown": 0}
    problem = assert_problem(await service.client.post(GENERATE, json=body), 422, "validation_failed")
    assert [error["loc"] for error in problem["errors"]] == [["body", name] for name in body]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"width": 2064}, "size_too_large"),
        ({"height": 16384}, "size_too_large"),
        ({"seed": 2**53 - 1, "num_images": 2}, "seed_out_of_range"),
        ({"base_model": "sdxl"}, "base_model_unknown"),
        ({"workflow": "nonsense"}, "workflow_unknown"),
        ({"workflow": "../../etc/passwd"}, "workflow_unknown"),
        ({"loras": [{"model_id": NOBODY}] * 2}, "lora_repeated"),
        ({"model_id": NOBODY, "loras": [{"model_id": f"{n:032x}"} for n in range(8)]}, "too_many_loras"),
    ],
)
async def test_values_that_do_not_go_together_are_refused(service: Service, body: dict[str, Any], code: str) -> None:
    assert_problem(await service.client.post(GENERATE, json={"prompt": "x", **body}), 422, code)


async def test_a_warm_up_longer_than_the_training_is_refused(service: Service) -> None:
    body = {"dataset_id": NOBODY, "steps": 10, "lr_warmup_steps": 10}
    assert_problem(await service.client.post(TRAIN, json=body), 422, "warmup_too_long")


async def test_a_base_model_that_is_not_installed_is_unavailable(service: Service) -> None:
    await service.pulse("flux-tiny")
    response = await service.client.post(GENERATE, json={"prompt": "x", "base_model": "flux-dev"})
    assert "masuka install flux-dev" in assert_problem(response, 503, "base_model_not_installed")["hint"]


async def test_the_self_test_model_is_never_chosen_unasked(service: Service) -> None:
    await service.pulse("flux-tiny")
    response = await service.client.post(GENERATE, json={"prompt": "x"})
    assert "flux-tiny" in assert_problem(response, 503, "base_model_not_installed")["hint"]


# ---- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"{\"prompt\": 'x'}",
        b'{"prompt": "\xff\xfe"}',
        b"\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"seed": ' + b"1" * 5_000 + b"}",
    ],
    ids=["cut", "text", "quotes", "latin", "nul", "arrays", "objects", "closed", "digits"],
)
async def test_a_body_that_is_not_json_is_refused(service: Service, body: bytes) -> None:
    for path in (TRAIN, GENERATE):
        assert_problem(await service.client.post(path, content=body, headers=JSON), 422, "body_not_json")


async def test_a_body_nested_about_as_deep_as_python_can_read_is_refused(service: Service) -> None:
    codes = set()
    for depth in range(600, 1000, 3):
        body = b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}"
        response = await service.client.post(GENERATE, content=body, headers=JSON)
        codes.add(response.json()["code"])
        assert_problem(response, 422, response.json()["code"])
    assert codes == {"validation_failed", "body_not_json"}


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
async def test_a_body_that_is_no_object_is_refused(service: Service, body: bytes) -> None:
    assert_problem(await service.client.post(GENERATE, content=body, headers=JSON), 422, "validation_failed")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "junk"]
)
async def test_a_body_that_does_not_say_it_is_json_is_refused(service: Service, content_type: str) -> None:
    response = await service.client.post(GENERATE, content=b'{"prompt": "x"}', headers={"Content-Type": content_type})
    assert_problem(response, 415, "content_type_not_json")


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
async def test_a_body_over_the_limit_is_refused_announced_or_not(service: Service, content_type: str) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 100_000
            yield b"x" * 100_000

    headers = {"Content-Type": content_type}
    announced = await service.client.post(GENERATE, content=b" " * (MAX_JSON_BYTES + 1), headers=headers)
    assert_problem(announced, 413, "body_too_large")
    chunked = await service.client.post(GENERATE, content=chunks(), headers=headers)
    assert_problem(chunked, 413, "body_too_large")
    assert taken <= MAX_JSON_BYTES + 100_000


@pytest.mark.parametrize("length", ["-1", "junk", "1e9", "9" * 5000, "\xb2"])
async def test_a_length_that_is_no_number_breaks_nothing(service: Service, length: str) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", length.encode("latin-1"))]
    response = await service.client.post(GENERATE, content=b"{", headers=headers)  # type: ignore[arg-type]
    assert_problem(response, 422, "body_not_json")


async def test_an_unknown_path_and_method_are_problems_too(service: Service) -> None:
    assert_problem(await service.client.get("/api/nothing"), 404, "route_not_found")
    response = await service.client.put(GENERATE)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


# ---- lists ---------------------------------------------------------------------------------------------------------

LISTS = ["/api/datasets/", "/api/training/", "/api/assets/", "/api/models/", "/api/jobs/", "/api/webhooks/deliveries/"]
LISTS += ["/api/models/imports/"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FORGED = [
    encode_cursor(datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))), UUID(NOBODY)),
    encode_cursor(NOW.replace(tzinfo=None), UUID(NOBODY)),
    base64.urlsafe_b64encode(f"{NOW.isoformat()}|{{{NOBODY}}}".encode()).decode().rstrip("="),
    base64.urlsafe_b64encode(b"\xff\xff").decode(),
]


@pytest.mark.parametrize("path", LISTS)
async def test_a_junk_cursor_is_refused(service: Service, path: str) -> None:
    for cursor in ("junk", "", "=", "AAAA", "%00", "é", encode_cursor(NOW, UUID(NOBODY)) + "A", *FORGED):
        response = await service.client.get(path, params={"cursor": cursor})
        assert_problem(response, 422, "cursor_invalid")
    assert_problem(await service.client.get(path, params={"cursor": "A" * 201}), 422, "validation_failed")


@pytest.mark.parametrize("path", LISTS)
async def test_a_page_size_out_of_range_is_refused(service: Service, path: str) -> None:
    for limit in ("0", "-1", "201", "x", "1.5", "NaN", str(2**64)):
        problem = assert_problem(await service.client.get(path, params={"limit": limit}), 422, "validation_failed")
        assert problem["errors"][0]["loc"] == ["query", "limit"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/training/", "status"),
        ("/api/training/", "model_type"),
        ("/api/assets/", "status"),
        ("/api/assets/", "asset_type"),
        ("/api/assets/", "model_id"),
        ("/api/models/", "model_type"),
        ("/api/models/", "base_model"),
        ("/api/jobs/", "status"),
        ("/api/jobs/", "kind"),
        ("/api/webhooks/deliveries/", "status"),
        ("/api/webhooks/deliveries/", "type"),
        ("/api/webhooks/deliveries/", "job_id"),
    ],
)
async def test_an_unknown_filter_value_is_refused(service: Service, path: str, name: str) -> None:
    response = await service.client.get(path, params={name: "a\x00b"})
    assert assert_problem(response, 422, "validation_failed")["errors"][0]["loc"] == ["query", name]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201, "ключ".encode()])
async def test_an_idempotency_key_that_is_none_is_refused(service: Service, key: str | bytes) -> None:
    headers: Any = {"Idempotency-Key": key}
    response = await service.client.post(GENERATE, json={"prompt": "x"}, headers=headers)
    assert_problem(response, 422, "validation_failed")
