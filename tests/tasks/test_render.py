"""Pictures whose ComfyUI starts, or ends between jobs or in the midst of one; files that are no whole pictures."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from api.comfy.client import ComfyClient
from api.domain.generation import GenerateImageRequest
from api.domain.job import Kind, Queue
from api.engines import receipt
from api.engines.receipt import Receipt
from api.errors import EngineError
from api.models import Job
from api.resources import Resources
from api.services import generation, jobs
from api.settings import Settings
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import generate
from api.tasks.gpu import GpuKit
from api.tasks.render import look_at
from tests.comfy import small_comfyui
from tests.comfy.small_comfyui import DEADLY, GOT, STARTED
from tests.job_rows import read
from tests.service import png, with_values
from tests.tasks.stage import on_duty
from tests.waiting import until, until_async


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    """The real flux-tiny, and a small ComfyUI."""
    engines = tmp_path / "engines"
    source = engines / "comfyui" / "source"
    source.mkdir(parents=True)
    (source / "main.py").symlink_to(str(small_comfyui.__file__))
    receipt.write(engines / "comfyui", Receipt("", "0.3.75", str(source), sys.executable))
    (engines / "flux-tiny").symlink_to(engines_dir / "flux-tiny")
    return with_values(settings, masuka_engines_dir=engines)


async def ask(resources: Resources, prompt: str) -> UUID:
    request = GenerateImageRequest(prompt=prompt, base_model="flux-tiny", width=64, height=64)
    async with resources.sessions.begin() as session:
        (asset,) = await generation.submit(session, resources.storage, resources.settings, {"flux-tiny"}, request)
        return generation.task_of(asset)


async def run(resources: Resources, *prompts: str) -> list[Job]:
    """One picture of each, all asked for at once, with a worker of its own; their jobs when all have ended."""
    kit = GpuKit(resources)
    job_ids = [await ask(resources, prompt) for prompt in prompts]

    async def over() -> bool:
        return all([(await read(resources.sessions, job_id)).finished_at for job_id in job_ids])

    async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: partial(generate, kit)})):
        await until_async(over, 40)
    await kit.close()
    return [await read(resources.sessions, job_id) for job_id in job_ids]


async def test_a_picture_that_kills_comfyui_every_time_fails_and_takes_no_other_with_it(resources: Resources) -> None:
    deadly, harmless = await run(resources, DEADLY, "a harmless picture")
    assert (deadly.status, deadly.error_code, deadly.attempt) == ("failed", "out_of_memory", 3)
    assert deadly.error_message is not None
    assert "most likely because the machine ran out of memory" in deadly.error_message
    assert harmless.status == "completed"
    assert harmless.attempt <= 2, "only the first attempt had company"


async def test_a_comfyui_past_the_limit_is_replaced_between_jobs_and_none_is_lost(resources: Resources) -> None:
    limited = replace(resources, settings=with_values(resources.settings, masuka_comfyui_max_memory_gb=0.001))
    drawn = await run(limited, *(f"picture {number}" for number in range(4)))
    assert [(job.status, job.attempt) for job in drawn] == [("completed", 1)] * 4
    starts = (resources.settings.masuka_data_dir / "logs" / "comfyui.log").read_text().count(STARTED)
    assert 2 <= starts <= 4, "at most two at a time use the same one"


async def test_a_comfyui_that_has_first_to_start_gets_the_pictures_in_their_turn(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, told = Attempt.tell, []

    async def tell_often(attempt: Attempt, **changes: object) -> None:
        """The picture whose turn is first takes longer than the other."""
        told.append(attempt.job_id)
        slow = changes["stage"] == "queued" and attempt.job_id == told[0]
        for _ in range(20 if slow else 1):
            await tell(attempt, **changes)

    monkeypatch.setattr(Attempt, "tell", tell_often)
    first, second = await run(resources, "first", "second")
    log = (resources.settings.masuka_data_dir / "logs" / "comfyui.log").read_text()
    assert log.index(f"{GOT}{first.id}") < log.index(f"{GOT}{second.id}")


async def test_a_picture_that_comfyui_was_not_given_yet_is_cancelled_without_it(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupt(*_: object) -> None:
        raise EngineError("ComfyUI does not answer, and would be killed for it.")

    monkeypatch.setattr(ComfyClient, "interrupt", interrupt)
    kit = GpuKit(resources)
    job_id = await ask(resources, "a picture")
    dispatcher = Dispatcher(resources, Queue.GPU, {Kind.IMAGE: partial(generate, kit)})
    async with on_duty(dispatcher), kit.handing_over:
        await until(lambda: kit._drawing, 40)
        pid = kit.comfy().pid
        async with resources.sessions.begin() as session:
            await jobs.request_cancel(session, job_id)
        await dispatcher.renew()
        await until(lambda: not kit._drawing, 40)
        assert kit.comfy().pid == pid
    assert (await read(resources.sessions, job_id)).status == "cancelled"
    assert GOT not in (resources.settings.masuka_data_dir / "logs" / "comfyui.log").read_text()
    await kit.close()


@pytest.mark.parametrize("missing", [1, 12, 40, 1000], ids=["last byte", "end", "end of the pixels", "pixels"])
def test_a_file_that_is_cut_off_anywhere_is_no_picture(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    assert look_at(path).width > 0
    path.write_bytes(png()[:-missing])
    with pytest.raises(EngineError) as error:
        look_at(path)
    assert error.value.code == "output_damaged"
