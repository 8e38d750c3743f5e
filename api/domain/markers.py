"""Markers in the titles of nodes: which inputs are parameters, and where LoRAs go.

A title may carry one marker, anywhere in it, which the canvas keeps through opening, editing and exporting:

    Sampler [[seed, steps=num_inference_steps, cfg]]

says that the node's inputs `seed`, `steps` and `cfg` are the parameters `seed`, `num_inference_steps` and `cfg`. One
parameter may set inputs of several nodes. The value in the graph is the parameter's default.

    Base model [[unet_name, @loras]]

says that LoRAs go behind this node: a chain of `LoraLoaderModelOnly` starts at its first output, and whatever used
that output uses the end of the chain.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from api.domain.graph import Node, Value
from api.errors import Fault

LORAS = "@loras"
_MARKER = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_ENTRY = re.compile(r"(?P<input>\w+)(?:\s*=\s*(?P<parameter>[a-z][a-z0-9_]{0,63}))?")
_SHOWN_CHARACTERS = 80


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


@dataclass(slots=True)
class Marked:
    """All that the titles of a graph say."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    lora_node: str | None = None
    """The node behind which LoRAs go; None: the workflow takes none."""
    faults: list[Fault] = field(default_factory=list)

    def refuse(self, node: Node, problem: str) -> None:
        self.faults.append(node.fault(f"the marker in its title is wrong: {problem}.", "workflow_marker_invalid"))


def read_markers(nodes: Mapping[str, Node]) -> Marked:
    marked = Marked()
    for node in nodes.values():
        markers = _MARKER.findall(node.title)
        if len(markers) > 1 or (not markers and "[[" in node.title):
            marked.refuse(node, "a title holds one [[...]]")
        elif markers:
            _read_entries(marked, node, [entry.strip() for entry in markers[0].split(",")])
    return marked


def _read_entries(marked: Marked, node: Node, entries: list[str]) -> None:
    seen: set[str] = set()
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        input_name = LORAS if entry == LORAS else match["input"] if match else ""
        if not input_name:
            marked.refuse(node, f"want input, input=parameter or {LORAS}, got {entry[:_SHOWN_CHARACTERS]!r}")
        elif input_name in seen:
            marked.refuse(node, f"it names {input_name} twice")
        elif match is None:
            _set_lora_node(marked, node)
        else:
            _add_slot(marked, node, input_name, match["parameter"])
        seen.add(input_name)


def _set_lora_node(marked: Marked, node: Node) -> None:
    if marked.lora_node is not None:
        marked.refuse(node, f"{LORAS} stands in the title of node {marked.lora_node} already")
    else:
        marked.lora_node = node.id


def _add_slot(marked: Marked, node: Node, input_name: str, parameter_name: str | None) -> None:
    default = node.inputs.get(input_name)
    if not isinstance(default, Value):
        known = ", ".join(key for key, value in node.inputs.items() if isinstance(value, Value))
        marked.refuse(node, f"{input_name!r} is not an input with a value; those are: {known or 'none'}")
        return
    name = parameter_name or input_name
    slot = Slot(node.id, input_name, node.class_type)
    before = marked.parameters.get(name)
    marked.parameters[name] = (
        Parameter(name, default, (slot,)) if before is None else Parameter(name, before.default, (*before.slots, slot))
    )
