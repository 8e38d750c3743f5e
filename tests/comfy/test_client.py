"""What a client makes of answers that the real ComfyUI does not give on request."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.comfy.client import ComfyClient
from api.comfy.errors import EngineSilent
from api.comfy.history import OutcomeStatus, Output

ENDED = {"status": {"status_str": "success", "messages": []}, "outputs": {}}


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> ComfyClient:
    """A client with a ComfyUI that answers like this, and has no websocket."""
    client = ComfyClient("http://127.0.0.1:1")
    hooks = client._http.event_hooks
    client._http = httpx.AsyncClient(
        base_url=client.base_url, transport=httpx.MockTransport(handler), event_hooks=hooks
    )
    return client


async def test_a_prompt_that_ends_between_two_questions_is_not_lost(monkeypatch):
    monkeypatch.setattr("api.comfy.client._LOST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("api.comfy.client.RECONCILE_SECONDS", 0.01)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        running = not asked  # it ends as soon as the first question has been answered
        asked.append(request.url.path)
        item: list[Any] = [0, "p", {}, {}, []]
        if request.url.path == "/queue":
            return httpx.Response(200, json={"queue_running": [item] if running else [], "queue_pending": []})
        return httpx.Response(200, json={} if running else {"p": ENDED})

    client = answering(answer)
    assert (await client.wait("p")).status is OutcomeStatus.SUCCESS
    await client.aclose()


async def test_a_comfyui_that_is_silent_for_too_long_is_given_up_by_everybody(monkeypatch):
    monkeypatch.setattr("api.comfy.http.SILENT_LIMIT_SECONDS", 0.1)
    monkeypatch.setattr("api.comfy.client.RECONCILE_SECONDS", 0.01)

    def silence(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("silence", request=request)

    client = answering(silence)
    began = time.monotonic()
    with pytest.raises(EngineSilent):
        await client.wait("p")
    assert time.monotonic() - began >= 0.1
    assert client.gone
    with pytest.raises(EngineSilent):
        await client.submit({}, "q")
    await client.aclose()


async def test_one_answer_ends_a_silence(monkeypatch):
    monkeypatch.setattr("api.comfy.http.SILENT_LIMIT_SECONDS", 500.0)
    silent = False

    def answer(request: httpx.Request) -> httpx.Response:
        if silent:
            raise httpx.ReadTimeout("silence", request=request)
        return httpx.Response(200, json={"queue_running": [], "queue_pending": []})

    client = answering(answer)
    client._silent_since = time.monotonic() - 1000
    await client.queue()
    silent = True
    with pytest.raises(EngineSilent):
        await client.queue()
    assert not client.gone
    await client.aclose()


async def test_a_submission_and_a_download_wait_for_a_comfyui_that_is_silent_for_a_while(monkeypatch, tmp_path):
    silences = 3

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal silences
        if silences:
            silences -= 1
            raise httpx.ReadTimeout("silence", request=request)
        if request.url.path == "/view":
            return httpx.Response(200, content=b"picture")
        return httpx.Response(200, json={"queue_running": [[0, "p", {}, {}, []]], "queue_pending": []})

    monkeypatch.setattr("api.comfy.client._REGISTER_SECONDS", 0.0)
    client = answering(answer)
    await client.submit({}, "p")
    silences = 3
    output = Output("1", "images", "a.png", "", animated=False)
    await client.download(output, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"picture"
    await client.aclose()
