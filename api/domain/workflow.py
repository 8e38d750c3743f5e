"""Workflow templates: graphs in ComfyUI's API format whose parameters are named in the titles of their nodes.

A title may carry one marker, anywhere in it, which the canvas keeps through opening, editing and exporting:

    Sampler [[seed, steps=num_inference_steps, cfg]]

says that the node's inputs `seed`, `steps` and `cfg` are the parameters `seed`, `num_inference_steps` and `cfg`. One
parameter may set inputs of several nodes. The value in the graph is the parameter's default and fixes its type: text,
number, or true/false (the canvas writes 1.0 as 1, so a whole number may stand for a float; ComfyUI knows which it is).

    Base model [[unet_name, @loras]]

says that LoRAs go behind this node: a chain of `LoraLoaderModelOnly` starts at its first output, and whatever used
that output uses the end of the chain.
"""

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from api.errors import InputError

Graph = dict[str, Any]
Value = str | int | float | bool

_MARKER = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_ENTRY = re.compile(r"(?P<input>\w+)(?:\s*=\s*(?P<parameter>[a-z][a-z0-9_]*))?")
_LORAS = "@loras"
_EXPORT_HINT = "Export it from the canvas with Workflow > Export (API)."


@dataclass(frozen=True, slots=True)
class Slot:
    """One input of one node that a parameter sets."""

    node: str
    input: str
    class_type: str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    default: Value
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A file in ComfyUI's LoRA folder and how strongly it is applied; 0 changes nothing."""

    file_name: str
    strength: float


@dataclass(frozen=True, slots=True)
class WorkflowTemplate:
    """A graph that has been checked; never changed, `bind` makes copies."""

    name: str
    graph: Graph
    parameters: Mapping[str, Parameter]
    lora_node: str | None
    """The node behind which LoRAs go; None: the workflow takes none."""

    def defaults(self) -> dict[str, Value]:
        return {parameter.name: parameter.default for parameter in self.parameters.values()}


def parse_template(name: str, text: str) -> WorkflowTemplate:
    """A template from the file that the canvas exported.

    Raises InputError `workflow_not_json`, `workflow_ui_format`, `workflow_malformed` or `workflow_marker_invalid`.
    """
    try:
        graph = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InputError("The workflow is not JSON.", code="workflow_not_json", hint=_EXPORT_HINT) from exc
    _check_graph(graph)
    parameters: dict[str, Parameter] = {}
    lora_nodes: list[str] = []
    for node_id, node in graph.items():
        for entry in _marked(node_id, node):
            if entry == _LORAS:
                lora_nodes.append(node_id)
            else:
                _add_slot(parameters, node_id, node, entry)
    if len(lora_nodes) > 1:
        _refuse_marker(lora_nodes[1], f"{_LORAS} stands in several titles")
    return WorkflowTemplate(name, graph, parameters, lora_nodes[0] if lora_nodes else None)


def bind(template: WorkflowTemplate, values: Mapping[str, Value], loras: Sequence[LoraUse] = ()) -> Graph:
    """The graph for `POST /prompt`, with every parameter set; start from `template.defaults()` to set only some.

    Raises InputError `workflow_parameter_unknown`, `_missing` or `_invalid` naming the parameters, and
    `workflow_without_loras`.
    """
    _check_names(template, values)
    graph = copy.deepcopy(template.graph)
    for parameter in template.parameters.values():
        value = _checked(parameter, values[parameter.name])
        for slot in parameter.slots:
            graph[slot.node]["inputs"][slot.input] = value
    if loras:
        _insert_loras(template, graph, loras)
    return graph


# ---- parsing -----------------------------------------------------------------------------------------------------


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _check_graph(graph: object) -> None:
    if not isinstance(graph, dict) or not graph:
        raise InputError("The workflow has no nodes.", code="workflow_malformed", hint=_EXPORT_HINT)
    if isinstance(graph.get("nodes"), list):
        raise InputError(
            "The workflow is in the canvas's own format, not in API format.",
            code="workflow_ui_format",
            hint=_EXPORT_HINT,
        )
    for node_id, node in graph.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            _refuse_node(node_id, "has no class_type")
        if not isinstance(node.get("inputs"), dict):
            _refuse_node(node_id, "has no inputs")
        for name, value in node["inputs"].items():
            if _is_link(value) and value[0] not in graph:
                _refuse_node(node_id, f"takes its input {name} from node {value[0]}, which does not exist")


def _marked(node_id: str, node: Mapping[str, Any]) -> Iterator[str]:
    """The entries of the marker in a node's title."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    if not isinstance(title, str):
        return
    markers = _MARKER.findall(title)
    if len(markers) > 1 or (not markers and "[[" in title):
        _refuse_marker(node_id, f"a title holds one [[...]], got {title!r}")
    for marker in markers:
        yield from (entry.strip() for entry in marker.split(","))


def _add_slot(parameters: dict[str, Parameter], node_id: str, node: Mapping[str, Any], entry: str) -> None:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        _refuse_marker(node_id, f"want input, input=parameter or {_LORAS}, got {entry!r}")
    input_name = match["input"]
    name = match["parameter"] or input_name
    default = node["inputs"].get(input_name)
    if not isinstance(default, Value):
        known = ", ".join(key for key, value in node["inputs"].items() if isinstance(value, Value))
        _refuse_marker(node_id, f"{input_name!r} is not an input with a value; those are: {known or 'none'}")
    slot = Slot(node_id, input_name, node["class_type"])
    known_slots = parameters[name].slots if name in parameters else ()
    parameters[name] = Parameter(name, parameters[name].default if known_slots else default, (*known_slots, slot))


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _refuse_node(node_id: str, problem: str) -> NoReturn:
    raise InputError(f"Node {node_id} {problem}.", code="workflow_malformed", value=node_id, hint=_EXPORT_HINT)


def _refuse_marker(node_id: str, problem: str) -> NoReturn:
    raise InputError(
        f"The marker in the title of node {node_id} is wrong: {problem}.",
        code="workflow_marker_invalid",
        value=node_id,
        hint="Mend the title in the canvas and export again.",
    )


# ---- binding -----------------------------------------------------------------------------------------------------


def _check_names(template: WorkflowTemplate, values: Mapping[str, Value]) -> None:
    unknown = sorted(values.keys() - template.parameters.keys())
    if unknown:
        raise InputError(
            f"Workflow {template.name} has no parameter {', '.join(unknown)}.",
            code="workflow_parameter_unknown",
            value=unknown,
            hint=f"It has: {', '.join(template.parameters)}.",
        )
    missing = sorted(template.parameters.keys() - values.keys())
    if missing:
        raise InputError(
            f"Workflow {template.name} needs {', '.join(missing)}.", code="workflow_parameter_missing", value=missing
        )


def _checked(parameter: Parameter, value: Value) -> Value:
    wanted = _kind(parameter.default)
    if _kind(value) != wanted or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(
            f"Parameter {parameter.name} must be {wanted}, got {value!r}.",
            code="workflow_parameter_invalid",
            value=value,
        )
    return value


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a finite number"


def _insert_loras(template: WorkflowTemplate, graph: Graph, loras: Sequence[LoraUse]) -> None:
    if template.lora_node is None:
        raise InputError(
            f"Workflow {template.name} takes no LoRA.",
            code="workflow_without_loras",
            hint=f"Put [[{_LORAS}]] into the title of the node that loads the base model.",
        )
    users = [node["inputs"] for node in graph.values()]
    # Canvas exports number their nodes; nodes inside subgraphs have ids like "12:3".
    free_id = max((int(node_id) for node_id in graph if node_id.isdecimal()), default=0) + 1
    end = [template.lora_node, 0]
    for number, lora in enumerate(loras, start=free_id):
        graph[str(number)] = _lora_node(lora, end)
        end = [str(number), 0]
    for inputs in users:
        for name, value in inputs.items():
            if value == [template.lora_node, 0]:
                inputs[name] = list(end)


def _lora_node(lora: LoraUse, model: list[Any]) -> Graph:
    return {
        "inputs": {"lora_name": lora.file_name, "strength_model": lora.strength, "model": model},
        "class_type": "LoraLoaderModelOnly",
        "_meta": {"title": f"LoRA {lora.file_name}"},
    }
