"""A prompt of the canvas on its way to ComfyUI: judged as workflows are, and marked as the canvas's own. Pure."""

import posixpath
from collections.abc import Mapping
from typing import Any

from api.domain.canvas import new_prompt_id, turn
from api.domain.graph import Graph, Node, as_link, read_nodes, require_api_format
from api.domain.nodes import FILE_INPUTS, NodeCatalogue
from api.domain.workflow_check import class_fault, is_path
from api.errors import Fault, InputError

OUR_FOLDER = "masuka"
"""In ComfyUI's folder of outputs: what jobs draw."""
_PREFIX = "filename_prefix"
_PLAIN_PREFIX = "ComfyUI"


def judge(graph: object, catalogue: NodeCatalogue) -> list[Fault]:
    """Nodes of classes that may not be used, and files that are not in ComfyUI's folders.

    The rest ComfyUI judges itself. Raises InputError for what is no graph.
    """
    nodes, faults = read_nodes(require_api_format(graph))
    for node in nodes.values():
        if catalogue.find(node.class_type) is None:
            faults.append(class_fault(node, catalogue))
        else:
            faults += _file_faults(node)
    return faults


def _file_faults(node: Node) -> list[Fault]:
    faults = []
    for name, value in node.inputs.items():
        names_file = (node.class_type, name) in FILE_INPUTS
        if names_file and as_link(value) is not None:  # ComfyUI does not look at what comes from another node
            problem = f"{name} names a file, which must stand there and cannot come from another node."
            faults.append(node.fault(problem, "workflow_link_invalid", input=name))
        elif (names_file or name == _PREFIX) and isinstance(value, str) and is_path(value):
            problem = f"{name} leaves its folder: name a file in it."
            faults.append(node.fault(problem, "workflow_path_refused", input=name, value=value))
    return faults


def prepared(body: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The body for ComfyUI: an id of the canvas's own, behind every job, and no file where the jobs' are.

    Nothing else but what the canvas sends, in the types that it has: the thread in which ComfyUI draws everybody's
    prompts ends with the first that it cannot handle.
    """
    ready: dict[str, Any] = {
        "prompt": {node_id: _bare(node) for node_id, node in with_own_prefixes(body["prompt"]).items()},
        "prompt_id": new_prompt_id(),
        "number": turn(now, front=bool(body.get("front"))),
    }
    if isinstance(client_id := body.get("client_id"), str):
        ready["client_id"] = client_id
    if isinstance(targets := body.get("partial_execution_targets"), list):
        ready["partial_execution_targets"] = [target for target in targets if isinstance(target, str)]
    extra_data = body.get("extra_data")
    if isinstance(extra_data, dict) and isinstance(info := extra_data.get("extra_pnginfo"), dict):
        ready["extra_data"] = {"extra_pnginfo": info}
    return ready


def _bare(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: node[key] for key in ("class_type", "inputs", "_meta") if key in node}


def with_own_prefixes(graph: Graph) -> Graph:
    """A graph that was opened from a job's picture would save where jobs do."""
    return {
        node_id: {**node, "inputs": {name: _prefix(name, value) for name, value in node["inputs"].items()}}
        for node_id, node in graph.items()
    }


def _prefix(name: str, value: Any) -> Any:
    if name != _PREFIX or not isinstance(value, str):
        return value
    return _PLAIN_PREFIX if posixpath.normpath(value).split("/")[0] == OUR_FOLDER else value


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """With other names for these pictures: a job's go when it has ended."""

    def name_of(input_: str, value: Any) -> Any:
        return names.get(value, value) if input_ == "image" and isinstance(value, str) else value

    return {
        node_id: {**node, "inputs": {name: name_of(name, value) for name, value in node["inputs"].items()}}
        for node_id, node in graph.items()
    }


def lora_names(graph: Graph) -> list[str]:
    """The LoRA files that a judged graph names."""
    return sorted(
        {
            value
            for node in graph.values()
            for name, value in node["inputs"].items()
            if FILE_INPUTS.get((node["class_type"], name)) == "loras" and isinstance(value, str)
        }
    )


def refusal(error: InputError, faults: list[Fault], graph: object) -> dict[str, Any]:
    """What ComfyUI would answer if it refused this itself; the canvas shows it, each fault at its node."""
    by_node: dict[str, Any] = {}
    for fault in faults:
        node_id = str(fault.loc[1]) if len(fault.loc) > 1 else ""
        node = graph.get(node_id) if isinstance(graph, dict) else None
        if isinstance(node, dict):
            about = {"dependent_outputs": [], "class_type": str(node.get("class_type")), "errors": []}
            by_node.setdefault(node_id, about)["errors"].append(_shown(fault))
    said = {"type": error.code, "message": error.detail, "details": error.hint or "", "extra_info": {}}
    return {"error": said, "node_errors": by_node}


def _shown(fault: Fault) -> dict[str, Any]:
    where = {"input_name": fault.loc[-1]} if len(fault.loc) > 2 else {}
    return {"type": fault.code, "message": fault.message, "details": "", "extra_info": where}
