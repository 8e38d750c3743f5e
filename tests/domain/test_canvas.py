"""What of ComfyUI the canvas reaches, and which prompts are its own."""

import pytest

from api.domain.canvas import (
    CanvasRouteClosedError,
    CanvasUploadRefusedError,
    check_upload,
    input_name,
    is_own,
    named_ids,
    new_prompt_id,
    own_part_of_history,
    own_part_of_queue,
    route_of,
    turn,
)

OWN = new_prompt_id()
JOB = "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e-0a1b2c"


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "", ""),
        ("HEAD", "assets/index-BKdH1OFt.js", "assets/index-BKdH1OFt.js"),
        ("GET", "api/userdata/user.css", "userdata/user.css"),
        ("GET", "api/object_info/KSampler", "object_info/KSampler"),
        ("GET", "api/view", "view"),
        ("GET", "materialdesignicons.min.css", "materialdesignicons.min.css"),
        ("POST", "api/prompt", "prompt"),
        ("POST", "prompt", "prompt"),
        ("POST", "api/userdata/workflows/mine.json", "userdata/workflows/mine.json"),
        ("DELETE", "api/userdata/workflows/mine.json", "userdata/workflows/mine.json"),
    ],
)
def test_what_the_canvas_needs_is_open(method: str, path: str, route: str) -> None:
    assert route_of(method, path) == route


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "api/customnode/install"),
        ("GET", "manager/reboot"),
        ("GET", "api/manager/queue/install_model"),
        ("POST", "api/users"),
        ("GET", "internal/folder_paths"),
        ("PUT", "api/prompt"),
        ("DELETE", "api/settings"),
        ("POST", "api/api/prompt"),
        ("GET", "assets/../../etc/passwd"),
        ("GET", "api/userdata/.."),
        ("GET", "assets//etc/passwd"),
        ("GET", "extensions/..\\..\\x"),
        ("GET", "extensions/a\x00.js"),
        ("GET", "api/view_metadata/loras/x"),
    ],
)
def test_everything_else_is_closed(method: str, path: str) -> None:
    with pytest.raises(CanvasRouteClosedError) as caught:
        route_of(method, path)
    assert caught.value.code == "canvas_route_closed"


def test_prompts_of_the_canvas_are_told_from_those_of_jobs() -> None:
    assert is_own(OWN)
    assert new_prompt_id() != OWN
    assert not is_own(JOB)
    assert not is_own(None)
    queue = {"queue_running": [[0, JOB, {}, {}, []]], "queue_pending": [[1, OWN, {}, {}, []]]}
    assert own_part_of_queue(queue) == {"queue_running": [], "queue_pending": [[1, OWN, {}, {}, []]]}
    assert own_part_of_history({JOB: {}, OWN: {"outputs": {}}}) == {OWN: {"outputs": {}}}
    assert named_ids({"delete": [JOB, OWN, 7]}) == [OWN]
    assert named_ids({"delete": OWN}) == named_ids({}) == []


def test_a_prompt_of_the_canvas_waits_behind_every_job_in_the_order_that_its_user_chose() -> None:
    jobs_count = 1_000_000
    first, second, urgent = turn(1.79e9, front=False), turn(1.79e9 + 1, front=False), turn(1.79e9 + 2, front=True)
    assert jobs_count < urgent < first < second


def test_pictures_are_uploaded_for_the_canvas_itself() -> None:
    check_upload("photo (1).png", {})
    check_upload("mask.png", {"type": "input", "subfolder": "clipspace", "overwrite": "true"})


@pytest.mark.parametrize(
    ("filename", "fields"),
    [
        (input_name("0" * 64), {"overwrite": "true"}),
        ("x.png", {"type": "output", "subfolder": "masuka"}),
        ("x.png", {"subfolder": "../output"}),
        ("x.png", {"subfolder": "/etc"}),
        ("x.png", {"subfolder": "a\\..\\b"}),
        ("../x.png", {}),
        ("a/x.png", {}),
        (".hidden", {}),
        ("", {}),
        ("x\x00.png", {}),
    ],
)
def test_no_upload_replaces_what_a_job_uses_or_leaves_the_folder(filename: str, fields: dict[str, str]) -> None:
    with pytest.raises(CanvasUploadRefusedError):
        check_upload(filename, fields)
