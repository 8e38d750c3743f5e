"""Workflow templates: graphs in ComfyUI's API format whose parameters are named in the titles of their nodes.

`domain/markers.py` says how a title names them, `domain/parameters.py` what values they take.
"""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from api.domain.graph import EXPORT_HINT, read_nodes, require_api_format, upstream
from api.domain.graph import Graph as Graph
from api.domain.graph import Value as Value
from api.domain.markers import LORAS, Parameter, read_markers
from api.errors import Fault, FaultsError, InputError

OUTPUT_CLASS = "SaveImage"


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A file in ComfyUI's LoRA folder and how strongly it is applied; 0 changes nothing."""

    file_name: str
    strength: float


@dataclass(frozen=True, slots=True)
class WorkflowTemplate:
    """A graph whose markers have been read; never changed, `bind` makes copies."""

    name: str
    graph: Graph
    parameters: Mapping[str, Parameter]
    lora_node: str | None
    """The node behind which LoRAs go; None: the workflow takes none."""

    def defaults(self) -> dict[str, Value]:
        return {parameter.name: parameter.default for parameter in self.parameters.values()}

    def require_loras(self) -> str:
        """The node behind which LoRAs go. Raises InputError `workflow_without_loras`."""
        if self.lora_node is None:
            raise InputError(
                f"Workflow {self.name} takes no LoRA.",
                code="workflow_without_loras",
                hint=f"Put [[{LORAS}]] into the title of the node that loads the base model.",
            )
        return self.lora_node


class WorkflowInvalidError(FaultsError):
    """The graph cannot be used as a template."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults, code="workflow_invalid", hint="Mend these nodes in the canvas and export it again.")


def parse_template(name: str, text: str) -> WorkflowTemplate:
    """A template from the file that the canvas exported.

    Raises InputError `workflow_not_json`, `workflow_ui_format`, `workflow_malformed` or `workflow_too_many_nodes`,
    WorkflowInvalidError with every fault of its structure and its markers.
    """
    try:
        graph = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InputError("The workflow is not JSON.", code="workflow_not_json", hint=EXPORT_HINT) from exc
    template, faults = read_template(name, graph)
    if faults:
        raise WorkflowInvalidError(faults)
    return template


def read_template(name: str, graph: object) -> tuple[WorkflowTemplate, list[Fault]]:
    """What can be read of it, and all that is wrong with its structure and its markers.

    Raises InputError for what is no graph at all, as `parse_template` does.
    """
    checked = require_api_format(graph)
    nodes, faults = read_nodes(checked)
    marked = read_markers(nodes)
    return WorkflowTemplate(name, checked, marked.parameters, marked.lora_node), faults + marked.faults


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
        _insert_loras(template.require_loras(), graph, loras)
    return graph


def with_output_prefix(graph: Graph, prefix: str) -> Graph:
    """What the picture needs of the graph, which is saved under this prefix, marked or not.

    Other nodes have not been judged, and ComfyUI would run each that is an output, such as a preview.
    """
    nodes, _ = read_nodes(graph)
    ends = [node.id for node in nodes.values() if node.class_type == OUTPUT_CLASS]
    needed = upstream(nodes, ends)
    sent = {node_id: node for node_id, node in graph.items() if node_id in needed}
    saved = {"filename_prefix": prefix}
    return sent | {end: {**sent[end], "inputs": {**sent[end]["inputs"], **saved}} for end in ends}


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


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
    # The canvas writes 1.0 as 1, so a whole number may stand for a float.
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a finite number"


def _insert_loras(lora_node: str, graph: Graph, loras: Sequence[LoraUse]) -> None:
    users = [node["inputs"] for node in graph.values()]
    # Canvas exports number their nodes; nodes inside subgraphs have ids like "12:3".
    free_id = max((int(node_id) for node_id in graph if node_id.isdecimal()), default=0) + 1
    end = [lora_node, 0]
    for number, lora in enumerate(loras, start=free_id):
        graph[str(number)] = _lora_node(lora, end)
        end = [str(number), 0]
    for inputs in users:
        for name, value in inputs.items():
            if value == [lora_node, 0]:
                inputs[name] = list(end)


def _lora_node(lora: LoraUse, model: list[Any]) -> Graph:
    return {
        "inputs": {"lora_name": lora.file_name, "strength_model": lora.strength, "model": model},
        "class_type": "LoraLoaderModelOnly",
        "_meta": {"title": f"LoRA {lora.file_name}"},
    }
