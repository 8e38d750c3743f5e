"""A small graph that ComfyUI could run, to be broken."""

import copy
from typing import Any

from api.comfy import core_nodes
from api.domain.graph import Graph
from api.domain.nodes import NodeCatalogue
from api.domain.workflow import WorkflowTemplate, read_template

GRAPH: Graph = {
    "1": {
        "inputs": {"ckpt_name": "base.safetensors"},
        "class_type": "CheckpointLoaderSimple",
        "_meta": {"title": "Base model [[@loras]]"},
    },
    "2": {
        "inputs": {"text": "a cat", "clip": ["1", 1]},
        "class_type": "CLIPTextEncode",
        "_meta": {"title": "Prompt [[text=prompt]]"},
    },
    "3": {
        "inputs": {"width": 512, "height": 512, "batch_size": 1},
        "class_type": "EmptyLatentImage",
        "_meta": {"title": "Size [[width, height]]"},
    },
    "4": {
        "inputs": {
            "seed": 1,
            "steps": 20,
            "cfg": 1,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1,
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["2", 0],
            "latent_image": ["3", 0],
        },
        "class_type": "KSampler",
        "_meta": {"title": "Sampler [[seed, steps, sampler_name=sampler]]"},
    },
    "5": {
        "inputs": {"samples": ["4", 0], "vae": ["1", 2]},
        "class_type": "VAEDecode",
        "_meta": {"title": "VAE Decode"},
    },
    "6": {
        "inputs": {"filename_prefix": "ComfyUI", "images": ["5", 0]},
        "class_type": "SaveImage",
        "_meta": {"title": "Save Image"},
    },
}
FILES = {"checkpoints": ["base.safetensors", "sub/other.safetensors"], "loras": ["a.safetensors"]}


def changed(changes: dict[str, dict[str, Any] | None]) -> Graph:
    """The graph with nodes added or taken away, or with some inputs, a `title` or a `class_type` changed."""
    graph = copy.deepcopy(GRAPH)
    for node_id, change in changes.items():
        if change is None:
            del graph[node_id]
            continue
        node = graph.setdefault(node_id, {"inputs": {}, "class_type": "", "_meta": {"title": ""}})
        inputs = dict(change)
        node["class_type"] = inputs.pop("class_type", node["class_type"])
        node["_meta"]["title"] = inputs.pop("title", node["_meta"]["title"])
        node["inputs"] = {key: value for key, value in {**node["inputs"], **inputs}.items() if value is not None}
    return graph


def catalogue(**extra: Any) -> NodeCatalogue:
    """The pinned ComfyUI's nodes, and some more."""
    shipped = core_nodes.shipped()
    return NodeCatalogue({**shipped["nodes"], **extra}, set(shipped["nodes"]), frozenset(shipped["refused"]))


def template_of(graph: Graph) -> WorkflowTemplate:
    template, faults = read_template("mine", graph)
    assert faults == []
    return template
