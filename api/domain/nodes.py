"""What ComfyUI's `/object_info` says of node classes: their inputs with types, defaults and limits, their outputs.

Which files an input may name depends on the machine and is not part of this: see `FILE_INPUTS`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

Spec = Mapping[str, Any]
ModelFiles = Mapping[str, Collection[str]]
"""Folder of models (`vae`, `loras`, ...) -> names of the files in it."""

IMAGE_FOLDER = "input"
"""ComfyUI's folder of input pictures. Its files are nobody's to name: pictures come as parameters."""
FILE_INPUTS: Mapping[tuple[str, str], str] = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoints",
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("ControlNetLoader", "control_net_name"): "controlnet",
    ("DiffControlNetLoader", "control_net_name"): "controlnet",
    **{("DualCLIPLoader", f"clip_name{n}"): "text_encoders" for n in (1, 2)},
    **{("TripleCLIPLoader", f"clip_name{n}"): "text_encoders" for n in (1, 2, 3)},
    **{("QuadrupleCLIPLoader", f"clip_name{n}"): "text_encoders" for n in (1, 2, 3, 4)},
    ("LoadImage", "image"): IMAGE_FOLDER,
    ("LoadImageMask", "image"): IMAGE_FOLDER,
    ("LoraLoader", "lora_name"): "loras",
    ("LoraLoaderModelOnly", "lora_name"): "loras",
    ("StyleModelLoader", "style_model_name"): "style_models",
    ("UNETLoader", "unet_name"): "diffusion_models",
    ("VAELoader", "vae_name"): "vae",
}
"""The folder of models that an input takes its files from."""
_KEPT_OPTIONS = ("default", "min", "max", "step")
_SUGGESTIONS = 3


class InputKind(StrEnum):
    INTEGER = "INT"
    NUMBER = "FLOAT"
    TEXT = "STRING"
    BOOLEAN = "BOOLEAN"
    CHOICE = "COMBO"
    LINK = "link"
    """Anything that only another node can give."""


@dataclass(frozen=True, slots=True)
class NodeInput:
    name: str
    kind: InputKind
    type: str
    """ComfyUI's name of the type, or several with commas between them."""
    required: bool
    options: Spec
    choices: tuple[str, ...] = ()
    folder: str | None = None
    """The folder of models whose files are the choices."""


@dataclass(frozen=True, slots=True)
class NodeClass:
    name: str
    inputs: Mapping[str, NodeInput]
    outputs: tuple[str, ...]
    is_output: bool
    is_custom: bool
    """It may take inputs that it does not tell of."""


@dataclass(frozen=True, slots=True)
class NodeCatalogue:
    """Node classes by name, in `/object_info`'s own form, and which of them workflows may use."""

    specs: Mapping[str, Spec]
    allowed: Collection[str]
    known: Collection[str] = field(default=frozenset())
    """Classes that exist besides, and may not be used."""

    def find(self, name: str) -> NodeClass | None:
        """The class, if it is installed and may be used."""
        return _node_class(name, self.specs[name]) if name in self.allowed and name in self.specs else None

    def like(self, name: str) -> list[str]:
        """What somebody who writes this may mean."""
        by_folded = {known.casefold(): known for known in self.specs.keys() & self.allowed}
        return [by_folded[match] for match in get_close_matches(name.casefold(), by_folded, _SUGGESTIONS)]


def slim(object_info: Mapping[str, Spec]) -> dict[str, dict[str, Any]]:
    """The answer of `/object_info` without what depends on the machine's files, and without prose."""
    return {name: _slim_class(name, spec) for name, spec in sorted(object_info.items())}


def _slim_class(name: str, spec: Spec) -> dict[str, Any]:
    inputs = {
        section: {input_: _slim_input(name, input_, about) for input_, about in spec["input"].get(section, {}).items()}
        for section in ("required", "optional")
    }
    return {
        "input": {section: found for section, found in inputs.items() if found},
        "output": ["COMBO" if isinstance(output, list) else output for output in spec.get("output") or ()],
        "output_node": bool(spec.get("output_node")),
        "python_module": spec.get("python_module", ""),
    }


def _slim_input(node: str, name: str, about: Any) -> list[Any]:
    """`[type, options]` or `[choices, options]`, in the second generation of nodes `["COMBO", {"options": [...]}]`."""
    type_, options = about[0], about[1] if len(about) > 1 else {}
    if type_ == "COMBO":
        type_ = options.get("options") or []
    if isinstance(type_, list):
        type_ = [] if (node, name) in FILE_INPUTS else [str(choice) for choice in type_]
    kept = {key: options[key] for key in _KEPT_OPTIONS if key in options}
    return [type_, kept] if kept else [type_]


def _node_class(name: str, spec: Spec) -> NodeClass:
    inputs = {
        input_: _node_input(name, input_, about, required=section == "required")
        for section, found in spec["input"].items()
        for input_, about in found.items()
    }
    custom = spec["python_module"].startswith("custom_nodes.")
    return NodeClass(name, inputs, tuple(spec["output"]), spec["output_node"], custom)


def _node_input(node: str, name: str, about: list[Any], *, required: bool) -> NodeInput:
    type_, options = about[0], about[1] if len(about) > 1 else {}
    folder = FILE_INPUTS.get((node, name))
    if isinstance(type_, list):
        return NodeInput(name, InputKind.CHOICE, "COMBO", required, options, tuple(type_), folder)
    kinds = (InputKind.INTEGER, InputKind.NUMBER, InputKind.TEXT, InputKind.BOOLEAN)
    kind = next((kind for kind in kinds if kind.value == type_), InputKind.LINK)
    return NodeInput(name, kind, type_, required, options)
