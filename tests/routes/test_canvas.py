"""The canvas behind our door: who gets in, what reaches ComfyUI, and that nothing there reaches a job."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus

from api.domain.canvas import CanvasState, is_own
from api.domain.job import Kind
from api.routes import canvas_socket
from api.routes.canvas_acts import PLACE_SCRIPT, SCRIPT
from api.routes.canvas_door import COOKIE
from api.services import canvas_calls
from api.services.workflows import shipped
from api.settings import Settings
from tests import job_rows
from tests.routes.canvas_stand import JOB, OWN, STATIC, Stand, canvas_stand
from tests.service import Service, assert_problem, png, serving, with_values

TOKEN = "a-long-secret-of-the-owner"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
GRAPH = shipped()["flux_text_to_image"].template.graph


@pytest.fixture
async def stand(service: Service) -> AsyncIterator[Stand]:
    async with canvas_stand(service.asgi, service.resources) as opened:
        yield opened


@pytest.fixture
async def locked(service_settings: Settings) -> AsyncIterator[Stand]:
    settings = with_values(service_settings, masuka_api_token=SecretStr(TOKEN))
    async with serving(settings) as service, canvas_stand(service.asgi, service.resources) as opened:
        yield opened


# ---- the door --------------------------------------------------------------------------------------------------------


async def test_without_the_token_nothing_of_comfyui_is_seen(locked: Stand) -> None:
    for method, path in (("GET", "/comfyui/"), ("GET", "/comfyui/assets/a.js"), ("POST", "/comfyui/api/prompt")):
        assert_problem(await locked.client.request(method, path), 401, "token_invalid")
    with pytest.raises(InvalidStatus) as caught:
        await websockets.connect(f"{locked.url.replace('http', 'ws', 1)}/comfyui/ws", proxy=None)
    assert caught.value.response.status_code == 401
    assert locked.comfyui.seen == []
    assert locked.comfyui.origins == []


async def test_a_browser_shows_the_token_once_and_then_carries_a_cookie_for_the_canvas_alone(locked: Stand) -> None:
    entered = await locked.client.get("/comfyui/", params={"asset": "7 & 8", "token": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, "/comfyui/?asset=7+%26+8")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Path=/comfyui/", "SameSite=strict"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert (await locked.client.get("/comfyui/")).status_code == 200
    kept = {"Cookie": cookie.partition(";")[0]}
    assert_problem(await locked.client.get("/api/jobs/", headers=kept), 401, "token_invalid")
    address = f"{locked.url.replace('http', 'ws', 1)}/comfyui/ws"
    async with websockets.connect(address, proxy=None, additional_headers=kept) as socket:
        assert "status" in str(await socket.recv())


@pytest.mark.parametrize("wrong", ["", TOKEN[:-1], f"{TOKEN}x", "ключ"])
async def test_a_wrong_token_opens_nothing(locked: Stand, wrong: str) -> None:
    response = await locked.client.get("/comfyui/", params={"token": wrong})
    assert_problem(response, 401, "token_invalid")
    assert "set-cookie" not in response.headers
    forged = await locked.client.get("/comfyui/", headers={"Cookie": f"{COOKIE}={wrong.encode().hex()}"})
    assert_problem(forged, 401, "token_invalid")


async def test_a_person_without_the_token_is_asked_for_it(locked: Stand) -> None:
    response = await locked.client.get('/comfyui/?asset="><script>', headers={"Accept": "text/html"})
    assert response.status_code == 401
    assert 'name="token"' in response.text
    assert "<script>" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_the_canvas_wants_a_host_of_ours_with_the_token_too(locked: Stand, stand: Stand) -> None:
    for opened, headers in ((locked, BEARER), (stand, {})):
        refused = await opened.client.get("/comfyui/", headers={**headers, "Host": "evil.example"})
        assert_problem(refused, 403, "host_not_allowed")
    entry = await locked.client.get("/comfyui/", params={"token": TOKEN}, headers={"Host": "evil.example"})
    assert "set-cookie" not in entry.headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_web_page_of_another_origin_reaches_neither_http_nor_websocket(stand: Stand, origin: str) -> None:
    refused = await stand.client.post("/comfyui/api/prompt", json={"prompt": GRAPH}, headers={"Origin": origin})
    assert_problem(refused, 403, "origin_not_allowed")
    address = f"{stand.url.replace('http', 'ws', 1)}/comfyui/ws"
    with pytest.raises(InvalidStatus) as caught:
        await websockets.connect(address, proxy=None, additional_headers={"Origin": origin})
    assert caught.value.response.status_code == 403
    assert stand.comfyui.seen == []
    assert stand.comfyui.origins == []


# ---- what goes through -----------------------------------------------------------------------------------------------


async def test_comfyui_sees_itself_as_host_and_origin_and_none_of_our_secrets(locked: Stand) -> None:
    headers = {**BEARER, "Origin": locked.url, "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "X-Mine": "kept"}
    response = await locked.client.get("/comfyui/api/userdata/a%2Fb.json?x=%2F", headers=headers)
    assert response.status_code == 200
    ((method, path, seen, _),) = locked.comfyui.seen
    assert (method, path) == ("GET", "/api/userdata/a%2Fb.json?x=%2F")
    assert seen["host"] == locked.comfyui_url.removeprefix("http://")
    assert seen["origin"] == locked.comfyui_url
    assert seen["x-mine"] == "kept"
    assert not {"authorization", "cookie", "x-forwarded-for", "referer"} & seen.keys()
    assert "set-cookie" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_files_keep_their_ranges_and_etags_and_arrive_whole(stand: Stand) -> None:
    whole = await stand.client.get("/comfyui/assets/a.js")
    assert (whole.content, whole.headers["etag"]) == (STATIC, '"1"')
    part = await stand.client.get("/comfyui/assets/a.js", headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, b"56789")
    again = await stand.client.get("/comfyui/assets/a.js", headers={"If-None-Match": '"1"'})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_websocket_goes_both_ways_in_text_and_bytes(stand: Stand) -> None:
    address = f"{stand.url.replace('http', 'ws', 1)}/comfyui/ws?clientId=abc"
    async with websockets.connect(address, proxy=None, additional_headers={"Origin": stand.url}) as socket:
        assert '"sid":"abc"' in str(await socket.recv()).replace(" ", "")
        assert await socket.recv() == b"\0\0\0\1picture"
        await socket.send("feature_flags")
        assert await socket.recv() == "heard feature_flags"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/comfyui/api/customnode/install"),
        ("GET", "/comfyui/manager/reboot"),
        ("GET", "/comfyui/internal/folder_paths"),
        ("GET", "/comfyui/assets/..%2f..%2fetc/passwd"),
        ("GET", "/comfyui/assets/%2e%2e/%2e%2e/etc/passwd"),
        ("GET", "/comfyui/extensions/..%5c..%5cx"),
        ("DELETE", "/comfyui/api/settings"),
    ],
)
async def test_what_the_canvas_does_not_need_is_closed(stand: Stand, method: str, path: str) -> None:
    assert_problem(await stand.client.request(method, path), 403, "canvas_route_closed")
    assert stand.comfyui.seen == []


async def test_our_script_stands_among_the_extensions(stand: Stand) -> None:
    assert (await stand.client.get("/comfyui/api/extensions")).json() == ["/extensions/core.js", SCRIPT]
    script = await stand.client.get(f"/comfyui{SCRIPT}")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "registerExtension" in script.text


# ---- while there is no ComfyUI ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "about", "code"),
    [
        (CanvasState.STARTING, {}, "canvas_starting"),
        (CanvasState.TRAINING, {}, "canvas_training_running"),
        (
            CanvasState.FAILED,
            {"code": "engine_not_installed", "detail": "comfyui is <not> there."},
            "engine_not_installed",
        ),
    ],
)
async def test_an_honest_page_and_problem_while_there_is_no_comfyui(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, state: CanvasState, about: dict[str, str], code: str
) -> None:
    monkeypatch.setattr(canvas_socket, "SLOW_DOWN_SECONDS", 0)
    stand.says(state, **about)
    assert_problem(await stand.client.get("/comfyui/api/object_info"), 503, code)
    page = await stand.client.get("/comfyui/", headers={"Accept": "text/html"})
    assert (page.status_code, int(page.headers["retry-after"]) > 0) == (503, True)
    assert 'http-equiv="refresh"' in page.text
    assert "<not>" not in page.text
    with pytest.raises(InvalidStatus) as caught:
        await websockets.connect(f"{stand.url.replace('http', 'ws', 1)}/comfyui/ws", proxy=None)
    assert caught.value.response.status_code == 503


async def test_a_comfyui_that_is_restarted_elsewhere_is_found_at_once(stand: Stand) -> None:
    urls = iter(["http://127.0.0.1:9", stand.comfyui_url])
    stand.worker.reply = lambda: canvas_calls.Reply(CanvasState.RUNNING, next(urls))
    assert (await stand.client.get("/comfyui/assets/a.js")).content == STATIC


async def test_a_comfyui_of_another_machine_is_not_reached_for(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "another-machine")
    assert_problem(await stand.client.get("/comfyui/assets/a.js"), 503, "canvas_elsewhere")


# ---- nothing reaches a job -------------------------------------------------------------------------------------------


async def test_a_prompt_is_the_canvass_own_and_waits_behind_jobs(stand: Stand) -> None:
    body = {"prompt": GRAPH, "prompt_id": JOB, "number": -1, "front": True, "client_id": "c"}
    answer = await stand.client.post("/comfyui/api/prompt", json=body)
    assert answer.status_code == 200
    (sent,) = stand.comfyui.bodies("POST", "/api/prompt")
    assert is_own(sent["prompt_id"])
    assert sent["number"] > 1e11
    assert sent["prompt"].keys() == GRAPH.keys()


async def test_during_a_training_nothing_is_drawn_by_hand(stand: Stand, service: Service) -> None:
    await job_rows.started(service.resources.sessions, kind=Kind.TRAINING)
    stand.says(CanvasState.TRAINING)
    answer = await stand.client.post("/comfyui/api/prompt", json={"prompt": GRAPH})
    found = assert_problem(answer, 409, "canvas_training_running")
    assert found["error"]["message"] == found["detail"], "the canvas shows it"
    assert found["node_errors"] == {}
    assert stand.comfyui.seen == []


async def test_a_picture_that_is_tried_again_has_comfyui_for_itself(stand: Stand, service: Service) -> None:
    lease = await job_rows.started(service.resources.sessions)
    assert (await stand.client.post("/comfyui/api/prompt", json={"prompt": GRAPH})).status_code == 200
    await job_rows.let_lease_run_out(service.resources.sessions, lease.job_id)
    await job_rows.expire(service.resources.sessions, lease.job_id)
    assert await job_rows.claim(service.resources.sessions, "b") == lease.job_id
    answer = await stand.client.post("/comfyui/api/prompt", json={"prompt": GRAPH})
    assert_problem(answer, 409, "canvas_job_alone")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"prompt": {}}', b'{"prompt": {"1": {"class_type": "LoadLatent"}}}']
)
async def test_a_prompt_that_is_refused_never_reaches_comfyui(stand: Stand, body: bytes) -> None:
    answer = await stand.client.post("/comfyui/api/prompt", content=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["code"]
    assert stand.comfyui.seen == []


async def test_a_prompt_of_ten_megabytes_is_refused(stand: Stand) -> None:
    answer = await stand.client.post("/comfyui/api/prompt", content=b'"' + b"x" * 10_000_001)
    assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("route", "body", "sent"),
    [
        ("interrupt", None, [{"prompt_id": OWN}]),
        ("interrupt", {"prompt_id": OWN}, [{"prompt_id": OWN}]),
        ("interrupt", {"prompt_id": JOB}, []),
        ("queue", {"clear": True}, [{"delete": []}]),
        ("queue", {"delete": [JOB, OWN]}, [{"delete": [OWN]}]),
        ("history", {"clear": True}, [{"delete": [OWN]}]),
        ("history", {"delete": [JOB, OWN]}, [{"delete": [OWN]}]),
    ],
)
async def test_only_the_canvass_own_prompts_are_touched(stand: Stand, route: str, body: Any, sent: list[Any]) -> None:
    answer = await stand.client.post(f"/comfyui/api/{route}", json=body if body is not None else {})
    assert answer.status_code == 200
    assert stand.comfyui.bodies("POST", f"/{route}") == sent


async def test_a_bare_interrupt_has_no_body_at_all(stand: Stand) -> None:
    assert (await stand.client.post("/comfyui/api/interrupt")).status_code == 200
    assert stand.comfyui.bodies("POST", "/interrupt") == [{"prompt_id": OWN}]


async def test_the_canvas_is_shown_its_own_prompts(stand: Stand) -> None:
    assert (await stand.client.get("/comfyui/api/queue")).json()["queue_running"] == [[0, OWN, {}, {}, []]]
    assert list((await stand.client.get("/comfyui/api/history")).json()) == [OWN]


async def test_memory_is_given_back_only_while_no_job_uses_it(stand: Stand) -> None:
    wish = {"unload_models": True, "free_memory": True}
    assert_problem(await stand.client.post("/comfyui/api/free", json=wish), 409, "canvas_job_running")
    stand.comfyui.running.remove(JOB)
    assert (await stand.client.post("/comfyui/api/free", json=wish)).status_code == 200
    assert stand.comfyui.bodies("POST", "/free") == [wish]


async def test_an_upload_goes_to_the_canvass_own_pictures_and_replaces_none_of_a_job(stand: Stand) -> None:
    picture = {"image": ("photo.png", png(), "image/png")}
    good = await stand.client.post("/comfyui/api/upload/image", files=picture, data={"subfolder": "pasted"})
    assert good.status_code == 200
    ((_, path, _, body),) = stand.comfyui.seen
    assert path == "/upload/image"
    assert png() in body
    assert b"pasted" in body
    for files, data in (
        (picture, {"type": "output", "subfolder": "masuka", "overwrite": "true"}),
        ({"image": ("masuka-00.png", png())}, {"overwrite": "true"}),
        (picture, {"subfolder": "../output"}),
    ):
        answer = await stand.client.post("/comfyui/api/upload/image", files=files, data=data)
        assert_problem(answer, 422, "canvas_upload_refused")
    assert len(stand.comfyui.seen) == 1


# ---- LoRAs -----------------------------------------------------------------------------------------------------------


async def test_trained_loras_stand_in_the_loaders_by_name_and_are_fetched_before_the_prompt(
    stand: Stand, service: Service
) -> None:
    model = await service.model(name="My Dog")
    names = (await stand.client.get("/comfyui/api/object_info")).json()["LoraLoaderModelOnly"]["input"]["required"]
    (listed, mine), _ = names["lora_name"]
    assert listed.startswith("my-dog-")
    assert mine == "mine.safetensors"
    node = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"lora_name": listed, "strength_model": 1, "model": ["1", 0]},
    }
    await stand.client.post("/comfyui/api/prompt", json={"prompt": {**GRAPH, "99": node}})
    assert [call.loras for call in stand.worker.calls if call.loras] == [(listed,)]
    assert model["name"] == "My Dog"


async def test_a_lora_that_cannot_be_fetched_is_said_and_nothing_is_queued(stand: Stand) -> None:
    stand.says(CanvasState.FAILED, code="model_file_missing", detail="The file of this LoRA is gone from the storage.")
    node = {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "x", "strength_model": 1, "model": ["1", 0]}}
    answer = await stand.client.post("/comfyui/api/prompt", json={"prompt": {**GRAPH, "99": node}})
    assert_problem(answer, 503, "model_file_missing")
    assert stand.comfyui.seen == []


async def test_the_page_is_told_where_it_stands(stand: Stand) -> None:
    page = await stand.client.get("/comfyui/?asset=7")
    assert f'src=".{PLACE_SCRIPT}"' in page.text
    assert page.text.count("</body>") == 1
    script = await stand.client.get(f"/comfyui{PLACE_SCRIPT}")
    assert "addRoute" in script.text
