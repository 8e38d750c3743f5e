"""Uploads that cannot be used are refused with a word on every file, and leave nothing behind."""

import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any

import httpx
import pytest
from starlette.types import Message

from api.settings import Settings
from tests.intake.pictures import encoded, png_of_size, scene
from tests.routes.test_form_reader import BOUNDARY, body
from tests.service import TO_Q, Service, assert_problem, png, serving, tiny_lora, tiny_tensors, with_values
from tests.trainer.lora_files import bf16, file_bytes, pair

DATASETS = "/api/datasets/"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
MB = 1024 * 1024


@pytest.fixture
def service_settings(settings: Settings, valkey_url: str) -> Settings:
    """Small limits, so that the tests can go over them."""
    limits = {"masuka_max_file_mb": 1, "masuka_max_upload_mb": 2, "masuka_max_files": 20}
    return with_values(settings, redis_url=valkey_url, **limits)


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind(service: Service) -> AsyncIterator[None]:
    before = await service.traces()
    yield
    assert await service.traces() == before


def zipped(entries: Mapping[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


# ---- files ---------------------------------------------------------------------------------------------------------

JPEG = encoded(scene(), "JPEG")


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        ({}, {}),
        ({"a.png": b""}, {"a.png": "not_an_image"}),
        ({"a.png": b"no picture"}, {"a.png": "not_an_image"}),
        ({"a.png": png_of_size(1, 1)}, {"a.png": "too_small"}),
        ({"a.png": encoded(scene(size=(1, 1)), "PNG")}, {"a.png": "too_small"}),
        ({"a.png": png_of_size(50_000, 50_000)}, {"a.png": "too_many_pixels"}),
        ({"a.jpg": JPEG[: len(JPEG) // 2]}, {"a.jpg": "corrupt_image"}),
        ({"a.txt": b"a caption"}, {"a.txt": "caption_without_image"}),
        ({"a.exe": b"MZ"}, {"a.exe": "unsupported_type"}),
        ({"../a.png": png()}, {"../a.png": "unsafe_name"}),
        ({"set.zip": zipped({})}, {}),
        (
            {"set.zip": zipped({"../a.png": png(), "/b.png": png(1)})},
            {"../a.png": "unsafe_name", "/b.png": "unsafe_name"},
        ),
        ({"set.zip": zipped({"big.png": b"\0" * (MB + 1)})}, {"big.png": "file_too_large"}),
    ],
    ids=lambda value: "+".join(value.values()) if value and isinstance(next(iter(value.values())), str) else "",
)
async def test_an_upload_without_one_usable_picture_says_why_of_each_file(
    service: Service, files: dict[str, bytes], refused: dict[str, str]
) -> None:
    problem = assert_problem(await service.upload(files, name="me"), 422, "no_usable_images")
    said = {error["loc"][-1]: (error["type"], bool(error["msg"])) for error in problem.get("errors", [])}
    assert said == {name: (code, True) for name, code in refused.items()}


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"set.zip": b"no zip"}, 422, "zip_invalid"),
        ({"set.zip": zipped({"a.png": png()})[:-30]}, 422, "zip_invalid"),
        ({"set.zip": zipped({"a.png": png()}), "b.png": png(1)}, 422, "zip_not_alone"),
        ({"set.zip": zipped({f"{n}.png": b"\0" * 500_000 for n in range(5)})}, 413, "zip_too_large"),
        ({"set.zip": zipped({f"{n}.png": b"" for n in range(21)})}, 413, "zip_too_many_files"),
        ({f"{n}.png": b"" for n in range(21)}, 413, "too_many_files"),
        ({"a.png": b"\0" * (MB + 1)}, 413, "file_too_large"),
        ({"a.png": b"\0" * MB, "b.png": b"\0" * MB}, 413, "upload_too_large"),
    ],
)
async def test_an_upload_beyond_what_is_taken_is_refused_whole(
    service: Service, files: dict[str, bytes], status: int, code: str
) -> None:
    assert_problem(await service.upload(files, name="me"), status, code)


async def test_a_zip_of_a_hundred_thousand_entries_is_refused(settings: Settings, valkey_url: str) -> None:
    archive = zipped({f"{n}.png": b"" for n in range(100_000)})
    async with serving(with_values(settings, redis_url=valkey_url)) as service:
        assert_problem(await service.upload({"set.zip": archive}, name="me"), 413, "zip_too_many_files")
        assert service.files() == []


# ---- fields --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "me", "trigger_word": "a\x00b"}, "trigger_word"),
        ({"name": "me", "caption_style": "x" * 101}, "caption_style"),
        ({"name": "me", "user_id": "1"}, "user_id"),
        ({"name": "me", "is_processed": "true"}, "is_processed"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(service: Service, fields: dict[str, str], where: str) -> None:
    response = await service.upload({"a.png": png()}, **fields)
    assert assert_problem(response, 422, "validation_failed")["errors"][0]["loc"] == ["body", where]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "null",
        '"text"',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\u0000"}',
        '{"\\u0000": 1}',
        '{"a": ["\\ud800"]}',
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
        "[" * 60_000,
        '{"a": ' + "1" * 5000 + "}",
    ],
    ids=lambda text: text[:20],
)
async def test_parameters_that_no_database_could_keep_are_refused(service: Service, text: str) -> None:
    response = await service.upload({"a.png": png()}, name="me", preprocessing_params=text)
    problem = assert_problem(response, 422, "validation_failed")
    assert problem["errors"][0]["loc"] == ["body", "preprocessing_params"]


async def test_a_field_sent_twice_is_refused(service: Service) -> None:
    form = body([("name", None, b"a"), ("name", None, b"b"), ("files", "a.png", png())])
    response = await service.client.post(DATASETS, content=form, headers=FORM)
    assert assert_problem(response, 422, "field_repeated")["value"] == "name"


async def test_a_field_that_is_not_unicode_is_refused(service: Service) -> None:
    form = body([("name", None, b"\xff\xfe"), ("files", "a.png", png())])
    assert_problem(await service.client.post(DATASETS, content=form, headers=FORM), 422, "multipart_invalid")


# ---- the body as a whole -------------------------------------------------------------------------------------------

WHOLE = body([("name", None, b"me"), ("files", "a.png", png()), ("files", "b.png", png(1))])


@pytest.mark.parametrize("length", [0, 1, 50, len(WHOLE) // 2, len(WHOLE) - 8])
async def test_a_body_that_ends_half_way_is_refused(service: Service, length: int) -> None:
    response = await service.client.post(DATASETS, content=WHOLE[:length], headers=FORM)
    assert_problem(response, 422, "upload_incomplete")


async def test_a_client_that_goes_away_half_way_leaves_nothing(service: Service) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": WHOLE[: len(WHOLE) // 2], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    request = httpx.Request("POST", f"http://127.0.0.1{DATASETS}", headers=FORM)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": DATASETS, "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": ""}
    await service.asgi(scope, receive, send)
    assert sent[0]["status"] == 422
    assert json.loads(sent[1]["body"])["code"] == "upload_incomplete"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        *((DATASETS, content_type) for content_type in ("application/json", "multipart/form-data", "text/plain", "")),
        *(("/api/models/import", content_type) for content_type in ("multipart/form-data", "text/plain", "")),
    ],
)
async def test_a_body_that_is_no_form_is_refused(service: Service, path: str, content_type: str) -> None:
    response = await service.client.post(path, content=b"{}", headers={"Content-Type": content_type})
    assert_problem(response, 422, "multipart_invalid")


@pytest.mark.parametrize("path", [DATASETS, "/api/models/import"])
async def test_an_upload_that_announces_too_much_is_refused_unread(service: Service, path: str) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {**FORM, "Content-Length": str(2 * MB + 1)}
    assert_problem(await service.client.post(path, content=unread(), headers=headers), 413, "upload_too_large")


# ---- LoRAs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "lora_invalid"),
        (b"garbage" * 100, "lora_invalid"),
        (png(), "lora_invalid"),
        (b"\xff" * 8 + b"{}", "lora_invalid"),
        (tiny_lora()[:-1], "lora_invalid"),
        (file_bytes({}), "lora_invalid"),
        (file_bytes({"some.weight": bf16(4, 4)}), "lora_invalid"),
        (file_bytes({**tiny_tensors(), "transformer.x.lora_A.weight": bf16(4, 128)}), "lora_invalid"),
        (file_bytes({**tiny_tensors(), f"{TO_Q}.lora_A.weight": bf16(4, 128, bits=0x7FC0)}), "lora_not_finite"),
        (file_bytes({**tiny_tensors(), f"{TO_Q}.alpha": bf16(bits=0x7F80)}), "lora_not_finite"),
        (tiny_lora(name="transformer.transformer_blocks.99.attn.to_q"), "lora_keys_mismatch"),
        (tiny_lora(name="lora_unet_down_blocks_0_attentions_0_proj_in"), "lora_keys_mismatch"),
        (file_bytes(pair(TO_Q, out=3072, inner=3072)), "lora_keys_mismatch"),
    ],
)
async def test_a_file_that_is_no_lora_for_the_base_model_is_refused(service: Service, data: bytes, code: str) -> None:
    assert_problem(await service.import_lora(data), 422, code)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"base_model": "sdxl"}, 422, "base_model_unknown"),
        ({"base_model": "../flux-tiny"}, 422, "base_model_unknown"),
        ({"name": ""}, 422, "validation_failed"),
        ({"name": "a\x00b"}, 422, "validation_failed"),
        ({"unknown": "1"}, 422, "validation_failed"),
        ({"base_model": "flux-dev"}, 503, "base_model_not_installed"),
    ],
)
async def test_an_import_with_wrong_fields_is_refused(
    service: Service, fields: dict[str, str], status: int, code: str
) -> None:
    assert_problem(await service.import_lora(tiny_lora(), **fields), status, code)


@pytest.mark.parametrize("count", [0, 2])
async def test_an_import_wants_exactly_one_file(service: Service, count: int) -> None:
    files = [("file", (f"{n}.safetensors", tiny_lora())) for n in range(count)]
    form = {"name": (None, "me"), "base_model": (None, "flux-tiny")}
    response = await service.client.post("/api/models/import", files=[*form.items(), *files])
    assert assert_problem(response, 422, "one_file_needed")["value"] == str(count)


async def test_a_lora_over_the_limit_of_uploads_is_refused(service: Service) -> None:
    assert_problem(await service.import_lora(b"\0" * (2 * MB)), 413, "upload_too_large")
