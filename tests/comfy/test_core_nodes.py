"""What workflows may use of ComfyUI reaches for no files but those of models and of ours."""

import json

from api.comfy.core_nodes import CORE_NODES
from api.domain.nodes import FILE_INPUTS

FILE_WORDS = ("file", "path", "folder", "url", "ckpt", "lora_name", "unet_name", "vae_name", "clip_name")


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
