import json
import struct

import pytest

from api.comfy.messages import (
    Cached,
    Executed,
    Executing,
    Failed,
    Ignored,
    Interrupted,
    Preview,
    Progress,
    Started,
    Status,
    Success,
    parse,
)
from tests.comfy.samples import FOLDER, frames, sample


def parsed(name: str) -> list[object]:
    return [frame for frame in map(parse, frames(name)) if not isinstance(frame, Ignored | Status)]


def test_a_prompt_that_succeeds_is_told_from_its_start_to_its_last_frame():
    told = parsed("ws_success_sequence")
    prompt = "1b7b9fa9-1406-4ea0-b08c-ea0fd505ebf7"
    assert told[:3] == [Started(prompt), Cached(prompt, ("1", "2", "3", "7")), Executing(prompt, "20")]
    assert [frame for frame in told if isinstance(frame, Progress)] == [
        Progress(prompt, "8", value, 4) for value in (1, 2, 3, 4)
    ]
    assert told[-3:] == [Executed(prompt, "10"), Success(prompt), Executing(prompt, None)]


def test_a_prompt_that_is_answered_from_the_cache_says_so_for_every_node():
    cached = next(frame for frame in parsed("ws_fully_cached_sequence") if isinstance(frame, Cached))
    assert len(cached.nodes) == 11


def test_a_failure_names_the_node_and_the_exception():
    failed = next(frame for frame in parsed("ws_execution_error_sequence") if isinstance(frame, Failed))
    assert (failed.node, failed.node_type) == ("20", "LoraLoader")
    assert failed.exception_type == "safetensors._safetensors_rust.SafetensorError"
    assert failed.message.startswith("Error while deserializing header")


def test_an_interrupted_prompt_is_told_apart_from_a_failed_one():
    prompt = "a734d9cd-5f5d-4dc3-a24a-96042fe210cb"
    assert parsed("ws_interrupted_sequence")[-2:] == [Interrupted(prompt, "8"), Executing(prompt, None)]


def test_the_first_status_names_the_client_and_later_ones_do_not():
    statuses = [frame for frame in map(parse, frames("ws_success_sequence")) if isinstance(frame, Status)]
    assert statuses[0] == Status(0, "d115ae55a05f499ca1bff989da28d74a")
    assert Status(1, None) in statuses


def test_a_node_without_a_prompt_belongs_to_nobody():
    reconnected = sample("ws_reconnect_same_client_id")[1]
    assert "prompt_id" not in reconnected["data"]
    assert parse(json.dumps(reconnected)) == Ignored("executing")


def test_a_preview_with_metadata_says_whose_it_is():
    preview = parse((FOLDER / "preview_with_metadata.bin").read_bytes())
    assert isinstance(preview, Preview)
    assert (preview.prompt_id, preview.node) == ("b1c4a64d-ad2d-4704-80df-d81aaae25b59", "8")
    assert preview.image_type == "image/jpeg"
    assert preview.image.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(("number", "image_type"), [(1, "image/jpeg"), (2, "image/png")])
def test_a_plain_preview_is_nobodys(number, image_type):
    assert parse(struct.pack(">II", 1, number) + b"picture") == Preview(None, None, image_type, b"picture")


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        '{"type": "progress", "data": null}',
        '{"type": "progress", "data": {"value": "x"}}',
        '{"type": "status", "data": {"status": {}}}',
        b"",
        b"\x00\x00\x00\x01",
        struct.pack(">II", 1, 99) + b"picture",
        struct.pack(">II", 4, 9) + b"not json!",
    ],
)
def test_a_malformed_frame_is_ignored(frame):
    assert parse(frame) == Ignored("malformed")


def test_frames_of_no_meaning_to_us_are_ignored():
    assert parse('{"type": "crystools.monitor", "data": {}}') == Ignored("crystools.monitor")
    assert parse(struct.pack(">II", 3, 0)) == Ignored("binary 3")
