"""`core_nodes.json` is what the pinned ComfyUI says of itself."""

import json

import pytest

from api.comfy.core_nodes import CORE_NODES, core_nodes
from tests.engines.comfy_lab import Lab

pytestmark = [pytest.mark.engines, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_the_kept_nodes_are_those_of_the_pinned_comfyui(lab: Lab) -> None:
    async with lab.server.use(lab.base) as client:
        found = core_nodes(await client.object_info())
    assert json.loads(CORE_NODES.read_text()) == found, "run scripts/core-nodes to write it anew"
