"""Whatever happens on the way, a prompt ends once, soon, and is called what it was."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic, time

import httpx
import psutil
import pytest

from api.comfy.client import ComfyClient
from api.comfy.errors import EngineDied, PromptLost, failure_error
from api.comfy.history import Outcome, OutcomeStatus
from api.comfy.http import TIMEOUT_SECONDS
from api.comfy.messages import Executing, Step
from api.domain.engine import InstalledBase
from api.errors import EngineError
from tests.engines.comfy_lab import STEPS, Drawing, Lab
from tests.engines.faulty_link import FaultyLink
from tests.waiting import until

pytestmark = [
    pytest.mark.engines,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),  # ComfyUI takes 5 s to start, and most of a minute on a machine that is busy
]

ALL_STEPS = list(range(1, STEPS + 1))


@asynccontextmanager
async def linked(lab: Lab) -> AsyncIterator[tuple[ComfyClient, FaultyLink]]:
    """A client that reaches ComfyUI over a link that can fail."""
    async with (
        lab.server.use(lab.base) as direct,
        FaultyLink(direct.base_url) as link,
        ComfyClient(link.url) as client,
    ):
        yield client, link


async def ended_at(client: ComfyClient, drawing: Drawing) -> float:
    """When ComfyUI had done a prompt, in seconds since the epoch."""
    async with httpx.AsyncClient(base_url=client.base_url) as http:
        history = (await http.get(f"/history/{drawing.prompt_id}")).json()
    messages = dict(history[drawing.prompt_id]["status"]["messages"])
    return float(messages["execution_success"]["timestamp"]) / 1000


async def begin(lab: Lab, client: ComfyClient, drawing: Drawing) -> asyncio.Task[Outcome]:
    """Submit, and come back when the fault node runs."""
    drawing_task = asyncio.create_task(lab.draw(client, drawing))
    await until(lambda: Executing(drawing.prompt_id, "50") in drawing.told, 30)
    return drawing_task


# ---- the websocket -----------------------------------------------------------------------------------------------


async def test_a_frozen_websocket_costs_at_most_three_seconds_and_is_replaced(lab: Lab):
    async with linked(lab) as (client, link):
        await lab.draw(client, lab.drawing())
        drawing = lab.faulty("sleep", seconds=0.5)
        running = await begin(lab, client, drawing)
        link.freeze_sockets()
        assert (await running).status is OutcomeStatus.SUCCESS
        assert time() - await ended_at(client, drawing) < 3
        await until(lambda: link.sockets_made == 2)
        after = lab.drawing()
        await lab.draw(client, after)
        assert after.sampled() == ALL_STEPS


async def test_a_dropped_websocket_costs_nothing_and_is_replaced(lab: Lab):
    async with linked(lab) as (client, link):
        running = await begin(lab, client, lab.faulty("sleep", seconds=0.5))
        link.drop_sockets()
        assert (await running).status is OutcomeStatus.SUCCESS
        after = lab.drawing()
        await lab.draw(client, after)
        assert (after.sampled(), link.sockets_made) == (ALL_STEPS, 2)


async def test_a_prompt_told_as_ended_before_it_has_is_followed_to_its_real_end(lab: Lab):
    async with lab.server.use(lab.base) as client:
        outcome = await lab.draw(client, lab.faulty("end_early", seconds=2.5))
        assert len(outcome.outputs) == 1


async def test_a_listener_that_fails_hurts_nobody_else(lab: Lab):
    def fail(step: Step) -> None:
        raise ValueError("boom")

    loop = asyncio.get_running_loop()
    failures: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    async with lab.server.use(lab.base) as client:
        drawing, after = lab.drawing(seed=21), lab.drawing(seed=22)
        await client.submit(drawing.graph, drawing.prompt_id, on_progress=fail)
        assert (await client.wait(drawing.prompt_id)).status is OutcomeStatus.SUCCESS
        await lab.draw(client, after)
    loop.set_exception_handler(None)
    assert {str(failure["exception"]) for failure in failures} == {"boom"}
    assert after.sampled() == ALL_STEPS


async def test_two_prompts_in_flight_are_told_apart(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawings = [lab.drawing(seed=seed) for seed in (11, 12)]
        outcomes = await asyncio.gather(*(lab.draw(client, drawing) for drawing in drawings))
    for drawing, outcome in zip(drawings, outcomes, strict=True):
        assert drawing.sampled() == ALL_STEPS
        assert {step.prompt_id for step in drawing.told} == {drawing.prompt_id}
        assert drawing.prompt_id in outcome.outputs[0].filename


# ---- HTTP --------------------------------------------------------------------------------------------------------


async def test_a_prompt_whose_acceptance_got_lost_runs_once(lab: Lab):
    async with linked(lab) as (client, link):
        link.lose_next_prompt_answer = True
        drawing = lab.drawing()
        assert (await lab.draw(client, drawing)).status is OutcomeStatus.SUCCESS
        assert link.prompts_sent == 1


async def test_submitting_again_what_is_in_flight_changes_nothing(lab: Lab):
    async with linked(lab) as (client, link):
        drawing = lab.faulty("sleep", seconds=0.2)
        running = await begin(lab, client, drawing)
        await client.submit(drawing.graph, drawing.prompt_id)
        assert (await running).status is OutcomeStatus.SUCCESS
        assert link.prompts_sent == 1


async def test_a_comfyui_that_does_not_answer_for_a_while_is_waited_for(lab: Lab, monkeypatch):
    async with lab.server.use(lab.base) as client:
        drawing = lab.faulty("deaf", seconds=2)
        await client.submit(drawing.graph, drawing.prompt_id)
        monkeypatch.setattr(client._http, "timeout", 0.2)
        assert (await client.wait(drawing.prompt_id)).status is OutcomeStatus.SUCCESS
        assert not client.gone


async def test_a_prompt_that_comfyui_has_forgotten_is_lost(lab: Lab):
    async with lab.server.use(lab.base) as client, ComfyClient(client.base_url) as somebody:
        running, waiting = lab.faulty("sleep", seconds=30), lab.drawing()
        interrupted = await begin(lab, client, running)
        await client.submit(waiting.graph, waiting.prompt_id)
        await somebody.interrupt(waiting.prompt_id)
        with pytest.raises(PromptLost):
            await client.wait(waiting.prompt_id)
        await somebody.interrupt(running.prompt_id)
        assert (await interrupted).status is OutcomeStatus.INTERRUPTED


# ---- stopping ----------------------------------------------------------------------------------------------------


async def test_interrupting_the_running_prompt_leaves_the_waiting_one_alone(lab: Lab):
    async with lab.server.use(lab.base) as client:
        first, second = lab.faulty("sleep", seconds=30), lab.drawing()
        running = await begin(lab, client, first)
        waiting = asyncio.create_task(lab.draw(client, second))
        await asyncio.gather(client.interrupt(first.prompt_id), client.interrupt(first.prompt_id))
        assert first.prompt_id not in await client.queue()
        assert (await running).status is OutcomeStatus.INTERRUPTED
        assert (await waiting).status is OutcomeStatus.SUCCESS


async def test_interrupting_the_waiting_prompt_leaves_the_running_one_alone(lab: Lab):
    async with lab.server.use(lab.base) as client:
        first, second = lab.faulty("sleep", seconds=0.5), lab.drawing()
        running = await begin(lab, client, first)
        await client.submit(second.graph, second.prompt_id, on_progress=second.told.append)
        await client.interrupt(second.prompt_id)
        assert (await client.wait(second.prompt_id)).status is OutcomeStatus.INTERRUPTED
        assert (await running).status is OutcomeStatus.SUCCESS
        assert second.told == []


async def test_interrupting_a_prompt_that_has_ended_hurts_nobody(lab: Lab):
    async with lab.server.use(lab.base) as client:
        ended, after = lab.drawing(), lab.faulty("sleep", seconds=0.2)
        await lab.draw(client, ended)
        running = await begin(lab, client, after)
        await client.interrupt(ended.prompt_id)
        assert (await running).status is OutcomeStatus.SUCCESS


async def test_whoever_gives_up_while_submitting_can_still_stop_the_prompt(lab: Lab):
    async with linked(lab) as (client, link):
        drawing = lab.faulty("sleep", seconds=30)
        link.prompts_pass.clear()
        submitting = asyncio.create_task(client.submit(drawing.graph, drawing.prompt_id))
        await until(lambda: link.prompts_sent)
        submitting.cancel()
        stopping = asyncio.create_task(_stop_after(submitting, client, drawing))
        asyncio.get_running_loop().call_later(0.1, link.prompts_pass.set)
        await stopping
        async with asyncio.timeout(10):
            await lab.draw(client, lab.drawing())  # would wait for a prompt that nobody stopped
        assert submitting.cancelled()


async def _stop_after(submitting: asyncio.Task[None], client: ComfyClient, drawing: Drawing) -> None:
    await asyncio.wait({submitting})
    await client.interrupt(drawing.prompt_id)


async def test_a_node_that_cannot_be_interrupted_is_told(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.faulty("hang", seconds=1)
        running = await begin(lab, client, drawing)
        with pytest.raises(EngineError) as caught:
            await client.interrupt(drawing.prompt_id, timeout_seconds=0.2)
        assert caught.value.code == "interrupt_timeout"
        assert (await running).status is OutcomeStatus.INTERRUPTED


# ---- nodes that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "code"), [("out_of_memory", "out_of_memory"), ("fail", "node_failed")])
async def test_a_node_that_raises_fails_its_prompt_and_the_next_one_is_drawn(lab: Lab, fault, code):
    async with lab.server.use(lab.base) as client:
        outcome = await lab.draw(client, lab.faulty(fault))
        assert outcome.failure is not None
        assert failure_error(outcome.failure).code == code
        assert (await lab.draw(client, lab.drawing())).status is OutcomeStatus.SUCCESS


# ---- the process -------------------------------------------------------------------------------------------------


def without_nodes(base: InstalledBase) -> InstalledBase:
    """A base for which ComfyUI has to be started differently."""
    return replace(base, name="other", custom_nodes=())


async def test_the_death_of_comfyui_is_told_at_once_and_the_next_user_gets_a_new_one(lab: Lab):
    async with lab.server.use(lab.base) as client:
        pid = lab.server.pid
        assert pid is not None
        running = await begin(lab, client, lab.faulty("sleep", seconds=30))
        waiting = lab.drawing()
        await client.submit(waiting.graph, waiting.prompt_id)
        os.kill(pid, signal.SIGKILL)
        killed_at = monotonic()
        for ended in (running, client.wait(waiting.prompt_id)):
            with pytest.raises(EngineDied):
                await ended
        assert monotonic() - killed_at < TIMEOUT_SECONDS
    async with lab.server.use(lab.base) as client:
        assert lab.server.pid != pid
        drawing = lab.drawing()
        await lab.draw(client, drawing)
        assert drawing.sampled() == ALL_STEPS
        assert len(lab.left_over()) == 1, "what the dead one had not finished is gone"


async def begin_to_use(lab: Lab, base: InstalledBase) -> None:
    async with lab.server.use(base):
        pass


async def test_another_base_waits_until_nobody_uses_the_present_one(lab: Lab):
    async with lab.server.use(lab.base) as client:
        pid = lab.server.pid
        running = await begin(lab, client, lab.faulty("sleep", seconds=1))
        switching = asyncio.create_task(begin_to_use(lab, without_nodes(lab.base)))
        assert (await running).status is OutcomeStatus.SUCCESS
        assert lab.server.pid == pid
    await switching
    assert lab.server.pid not in (None, pid)
    assert not psutil.pid_exists(pid or 0)


async def test_a_comfyui_that_takes_its_own_life_is_dead_and_stopping_it_is_no_error(lab: Lab):
    async with lab.server.use(without_nodes(lab.base)) as client:
        with pytest.raises(EngineDied):
            await lab.draw(client, lab.without_models("exit"))
    assert not lab.server.running
    await lab.server.stop()
    await lab.server.stop()
    with pytest.raises(EngineDied, match="stopped"):
        await client.queue()
