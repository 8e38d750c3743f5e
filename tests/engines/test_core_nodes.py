"""`core_nodes.json` is what the pinned ComfyUI says of itself, and allows nothing that reaches for files."""

import json

import pytest

from api.comfy.core_nodes import CORE_NODES, core_nodes
from api.domain.nodes import FILE_INPUTS
from tests.engines.comfy_lab import Lab

pytestmark = [pytest.mark.engines, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

FILE_WORDS = ("file", "path", "folder", "url", "dir", "ckpt", "lora_name", "unet_name", "vae_name", "clip_name")


async def test_the_kept_nodes_are_those_of_the_pinned_comfyui(lab: Lab) -> None:
    async with lab.server.use(lab.base) as client:
        found = core_nodes(await client.object_info())
    assert json.loads(CORE_NODES.read_text()) == found, "run scripts/core-nodes to write it anew"


def test_no_allowed_node_names_a_file_but_from_a_folder_of_models_or_of_ours() -> None:
    nodes = json.loads(CORE_NODES.read_text())["nodes"]
    named = {
        (node, name)
        for node, spec in nodes.items()
        for section in spec["input"].values()
        for name in section
        if any(word in name.lower() for word in FILE_WORDS)
    }
    assert named - FILE_INPUTS.keys() == {("SaveImage", "filename_prefix")}


def test_every_allowed_node_that_writes_or_previews_is_known() -> None:
    nodes = json.loads(CORE_NODES.read_text())["nodes"]
    writing = {name for name, spec in nodes.items() if spec["output_node"]}
    assert writing == {"SaveImage", "PreviewImage", "MaskPreview", "PreviewAny"}
