"""What the graph inside a picture made by hand says of it, in the words of the history. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from api.domain.canvas import SOURCE
from api.domain.graph import Graph, Node, read_nodes
from api.domain.progress import cleaned

_TEXTS = ("text", "t5xxl", "clip_l", "text_g")
_SEEDS = ("seed", "noise_seed")
_NUMBERS = {"steps": "num_inference_steps", "cfg": "true_cfg_scale", "guidance": "guidance_scale"}
"""ComfyUI's names of inputs, and ours."""


def described(graph: Graph) -> tuple[str, str, dict[str, Any]]:
    """Prompt, negative prompt and `generation_config`; what cannot be told from the graph is left out, or empty."""
    nodes, _ = read_nodes(graph)
    config: dict[str, Any] = {"source": SOURCE, "loras": _loras(nodes)}
    seed = next(_values(nodes, _SEEDS), None)
    config |= {} if seed is None else {"seed": seed}
    for theirs, ours in _NUMBERS.items():
        value = next(_values(nodes, (theirs,)), None)
        config |= {} if value is None else {ours: value}
    return _text(nodes, ("positive", "conditioning")), _text(nodes, ("negative",)), config


def _values(nodes: Mapping[str, Node], names: tuple[str, ...]) -> Iterator[int | float]:
    for node in nodes.values():
        for name in names:
            value = node.inputs.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                yield value


def _loras(nodes: Mapping[str, Node]) -> list[dict[str, Any]]:
    """In the order of the graph's ids; those that nothing in the graph uses count, too."""
    return [
        {"file": cleaned(name), "scale": _number(node.inputs.get("strength_model"))}
        for node in nodes.values()
        if node.class_type in ("LoraLoader", "LoraLoaderModelOnly")
        and isinstance(name := node.inputs.get("lora_name"), str)
    ]


def _number(value: Any) -> float | None:
    """None for what comes from another node."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _text(nodes: Mapping[str, Node], inputs: tuple[str, ...]) -> str:
    """The text nearest to a sampler's input of one of these names."""
    for name in inputs:
        starts = [link.node for node in nodes.values() for input_, link in node.links() if input_ == name]
        waiting, seen = starts, set[str]()
        while waiting:
            node_id = waiting.pop(0)
            if node_id in nodes and node_id not in seen:
                seen.add(node_id)
                found = next((text for key in _TEXTS if isinstance(text := nodes[node_id].inputs.get(key), str)), None)
                if found is not None:
                    return cleaned(found)
                waiting += [link.node for _, link in nodes[node_id].links()]
    return ""
