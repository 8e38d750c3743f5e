"""The GPU worker's side of the canvas: ComfyUI starts when it is asked for, and is in no job's way."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from api.comfy.client import ComfyClient
from api.domain.canvas import CanvasState
from api.domain.job import Kind
from api.engines import receipt
from api.engines.receipt import Receipt
from api.resources import Resources
from api.services import canvas, canvas_calls
from api.services.canvas_calls import Call
from api.settings import Settings
from api.tasks.canvas import CanvasHost, serve_canvas_forever
from api.tasks.gpu import GpuKit, end_canvas_prompts
from tests import job_rows
from tests.comfy import small_comfyui
from tests.routes.canvas_stand import JOB, OWN, SmallComfyUI, on_a_port
from tests.service import with_values
from tests.waiting import until_async


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    engines = tmp_path / "engines"
    source = engines / "comfyui" / "source"
    source.mkdir(parents=True)
    (source / "main.py").symlink_to(str(small_comfyui.__file__))
    receipt.write(engines / "comfyui", Receipt("", "0.3.75", str(source), sys.executable))
    (engines / "flux-tiny").symlink_to(engines_dir / "flux-tiny")
    return with_values(settings, masuka_engines_dir=engines)


@pytest.fixture
async def kit(resources: Resources) -> AsyncIterator[GpuKit]:
    opened = GpuKit(resources)
    yield opened
    await opened.close()


def call(*loras: str) -> Call:
    return Call("1", time.time() + 60, loras)


async def running(host: CanvasHost) -> str:
    """Where ComfyUI is, once it runs."""
    found = ""

    async def there() -> bool:
        nonlocal found
        found = (await host.reply(call())).url or ""
        return bool(found)

    await until_async(there, 30)
    return found


async def test_comfyui_starts_when_the_canvas_is_opened_with_any_base_model(kit: GpuKit, resources: Resources) -> None:
    serving = asyncio.create_task(serve_canvas_forever(kit, resources))

    async def there() -> bool:
        reply = await canvas_calls.ask(resources.redis)
        assert reply.state in (CanvasState.STARTING, CanvasState.RUNNING)
        return reply.url is not None and reply.url == kit.comfy_url

    await until_async(there, 30)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "KSampler" in (await client.get(f"{kit.comfy_url}/object_info")).json()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_during_a_training_it_sleeps(kit: GpuKit, resources: Resources) -> None:
    await job_rows.started(resources.sessions, kind=Kind.TRAINING)
    assert (await CanvasHost(kit, resources).reply(call())).state is CanvasState.TRAINING
    assert kit.comfy_url is None


async def test_a_training_that_was_claimed_while_it_started_does_not_find_it_there(
    kit: GpuKit, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = [False, True]

    async def training_runs(_: object) -> bool:
        return claimed.pop(0) if len(claimed) > 1 else claimed[0]

    monkeypatch.setattr("api.services.canvas.training_runs", training_runs)
    host = CanvasHost(kit, resources)

    async def over() -> bool:
        return (await host.reply(call())).state is CanvasState.TRAINING

    await until_async(over, 30)
    assert kit.comfy_url is None


async def test_one_that_cannot_start_says_why_and_is_not_started_over_and_over(
    kit: GpuKit, resources: Resources
) -> None:
    main = resources.settings.engines_dir / "comfyui" / "source" / "main.py"
    main.unlink()
    main.write_text("open('starts', 'a').write('.'); raise SystemExit('no module named nothing')")
    host = CanvasHost(kit, resources)

    async def failed() -> bool:
        return (await host.reply(call())).state is CanvasState.FAILED

    await until_async(failed, 30)
    again = await host.reply(call())
    assert (again.state, again.code) == (CanvasState.FAILED, "comfyui_start_failed")
    assert "no module named nothing" in (again.detail or "")
    assert (resources.settings.masuka_data_dir / "comfyui" / "starts").read_text() == "."


async def test_files_that_the_library_does_not_know_are_the_owners_own(kit: GpuKit, resources: Resources) -> None:
    host = CanvasHost(kit, resources)
    await running(host)
    assert (await host.reply(call("mine.safetensors"))).state is CanvasState.RUNNING


async def test_what_is_drawn_by_hand_gives_way_to_a_job_and_the_job_goes_on() -> None:
    small = SmallComfyUI()
    async with on_a_port(small.app()) as url, ComfyClient(url) as client:
        await end_canvas_prompts(client)
    assert small.running == [JOB]
    assert small.bodies("POST", "/interrupt") == [{"prompt_id": OWN}]


async def test_a_worker_that_is_away_is_not_waited_for(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas_calls, "REPLY_SECONDS", 0.05)
    assert (await canvas_calls.ask(resources.redis)).state is CanvasState.ABSENT


async def test_a_call_that_nobody_waits_for_any_more_is_not_answered(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas_calls, "REPLY_SECONDS", 0.05)
    monkeypatch.setattr(canvas_calls, "TAKE_SECONDS", 1)
    await canvas_calls.ask(resources.redis)
    assert await canvas_calls.take(resources.redis) is None
    monkeypatch.setattr(canvas_calls, "REPLY_SECONDS", 5.0)
    asking = asyncio.create_task(canvas_calls.ask(resources.redis))
    taken = None
    while taken is None:
        taken = await canvas_calls.take(resources.redis)
    await canvas_calls.answer(resources.redis, taken, canvas_calls.Reply(CanvasState.STARTING))
    assert (await asking).state is CanvasState.STARTING


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OperationalError("SELECT secret", {}, Exception("no")), "database_unavailable"),
        (KeyError("x"), "internal_error"),
    ],
)
async def test_what_goes_wrong_is_said_without_its_innards_and_the_worker_goes_on(
    kit: GpuKit, resources: Resources, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    async def wrong(*_: object) -> bool:
        raise error

    monkeypatch.setattr(canvas, "training_runs", wrong)
    reply = await CanvasHost(kit, resources).reply(call())
    assert (reply.state, reply.code) == (CanvasState.FAILED, code)
    assert reply.detail
    assert "SELECT" not in reply.detail
