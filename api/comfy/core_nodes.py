"""ComfyUI's own nodes that workflows may use, as the pinned ComfyUI tells of them in `/object_info`.

Kept in `core_nodes.json`, so that workflows can be judged where no ComfyUI has ever run. It is also the list of what
is allowed: nodes that draw. Left out are those that read or write files of any name, run patterns that may never end,
train, record, or make what is no picture.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from api.domain.nodes import FILE_INPUTS, Spec, slim

CORE_NODES = Path(__file__).with_name("core_nodes.json")

_MODULES = frozenset(
    {
        *("nodes", "advanced_samplers", "align_your_steps", "apg", "attention_multiply", "cfg", "clip_sdxl"),
        *("compositing", "cond", "controlnet", "custom_sampler", "differential_diffusion", "easycache"),
        *("edit_model", "eps", "flux", "freelunch", "fresca", "gits", "hidream", "hypertile", "images"),
        *("latent", "mahiro", "mask", "model_advanced", "model_downscale", "model_merging", "optimalsteps"),
        *("pag", "perpneg", "pixart", "post_processing", "preview_any", "primitive", "qwen", "rebatch", "rope"),
        *("sag", "sd3", "slg", "string", "tcfg", "tomesd"),
    }
)
"""Of `comfy_extras.nodes_...`, and `nodes` itself: those whose nodes draw."""
_REFUSED = frozenset(
    {
        *("CheckpointLoader", "CheckpointSave", "CLIPSave", "DiffusersLoader", "GLIGENLoader"),
        *("LoadImageOutput", "LoadLatent", "ModelSave", "RegexExtract", "RegexMatch", "RegexReplace"),
        *("SaveAnimatedPNG", "SaveAnimatedWEBP", "SaveLatent", "SaveSVGNode", "VAESave"),
        "unCLIPCheckpointLoader",
    }
)
"""Nodes of these modules that do more than that."""


def core_nodes(object_info: Mapping[str, Spec]) -> dict[str, Any]:
    """The content of `core_nodes.json`: `nodes` with their specs, and the names of all others as `refused`."""
    found = slim({name: spec for name, spec in object_info.items() if _is_core(spec)})
    allowed = {name: spec for name, spec in found.items() if _is_allowed(name, spec)}
    return {"nodes": allowed, "refused": sorted(found.keys() - allowed.keys())}


@cache
def shipped() -> Mapping[str, Any]:
    """What `core_nodes` made of the pinned ComfyUI."""
    found: dict[str, Any] = json.loads(CORE_NODES.read_text())
    return found


def _is_core(spec: Spec) -> bool:
    module = str(spec.get("python_module", ""))
    return module == "nodes" or module.startswith("comfy_extras.")


def _is_allowed(name: str, spec: Spec) -> bool:
    module = spec["python_module"].removeprefix("comfy_extras.nodes_")
    return module in _MODULES and name not in _REFUSED and not _unknown_files(name, spec)


def _unknown_files(name: str, spec: Spec) -> bool:
    """Whether it takes files from a folder that we do not know: a choice without choices."""
    inputs = [(name, input_, about) for section in spec["input"].values() for input_, about in section.items()]
    return any(about[0] == [] and (node, input_) not in FILE_INPUTS for node, input_, about in inputs)
