"""A cancel frees the GPU even from a node that does not listen."""

import asyncio
from time import monotonic

import pytest

from api.comfy.errors import EngineDied
from api.comfy.messages import Executing
from api.tasks.render import stop_prompt
from tests.engines.comfy_lab import Lab
from tests.waiting import until

pytestmark = [
    pytest.mark.engines,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]


async def test_a_prompt_that_does_not_listen_is_ended_with_its_comfyui_and_the_next_one_starts_another(lab: Lab):
    async with lab.server.use(lab.base) as client:
        stubborn, behind = lab.faulty("hang", seconds=120), lab.drawing()
        running = asyncio.create_task(lab.draw(client, stubborn))
        await until(lambda: Executing(stubborn.prompt_id, "50") in stubborn.told, 30)
        waiting = asyncio.create_task(lab.draw(client, behind))
        began = monotonic()

        await stop_prompt(lab.server, client, stubborn.prompt_id)

        assert monotonic() - began < 10
        assert not lab.server.running
        for task in (running, waiting):
            with pytest.raises(EngineDied):
                await task
    async with lab.server.use(lab.base) as client:
        await lab.draw(client, lab.drawing())
