"""Graphs in ComfyUI's API format: `{node id: {class_type, inputs, _meta}}`, read with a word on every fault."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.errors import Fault, InputError

Graph = dict[str, Any]
Value = str | int | float | bool

MAX_NODES = 500
MAX_ID_CHARACTERS = 64
EXPORT_HINT = "Export it from the canvas with Workflow > Export (API)."
_MARKER = re.compile(r"\[\[.*?\]\]", re.DOTALL)
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Link:
    """An input that takes output number `slot` of another node."""

    node: str
    slot: int | float
    """A whole number, or it is a fault."""


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    class_type: str
    inputs: Mapping[str, Any]
    title: str

    def links(self) -> Iterator[tuple[str, Link]]:
        for name, value in self.inputs.items():
            link = as_link(value)
            if link is not None:
                yield name, link

    def __str__(self) -> str:
        """For messages: id, title without its marker, class."""
        title = " ".join(_MARKER.sub("", self.title).split())
        named = f' "{_short(title)}"' if title and title != self.class_type else ""
        return f"Node {_short(self.id)}{named} ({_short(self.class_type)})"

    def fault(self, problem: str, code: str, *, input: str | None = None, value: Any = None) -> Fault:
        where = ("graph", self.id) if input is None else ("graph", self.id, "inputs", input)
        return Fault(where, f"{self}: {problem}", code, value)


def require_api_format(graph: object) -> Graph:
    """Raises InputError `workflow_ui_format` or `workflow_malformed` for what is no graph at all."""
    if not isinstance(graph, dict) or not graph:
        raise InputError("The workflow has no nodes.", code="workflow_malformed", hint=EXPORT_HINT)
    if isinstance(graph.get("nodes"), list):
        raise InputError(
            "The workflow is in the canvas's own format, not in API format.",
            code="workflow_ui_format",
            hint=EXPORT_HINT,
        )
    if len(graph) > MAX_NODES:
        raise InputError(
            f"The workflow has {len(graph)} nodes; at most {MAX_NODES} are taken.",
            code="workflow_too_many_nodes",
            value=len(graph),
        )
    return graph


def read_nodes(graph: Graph) -> tuple[dict[str, Node], list[Fault]]:
    """The nodes that can be read, and what is wrong with the structure: broken nodes, links to nowhere, cycles."""
    nodes: dict[str, Node] = {}
    faults: list[Fault] = []
    for node_id, raw in graph.items():
        problem = _broken(node_id, raw)
        if problem is None:
            nodes[node_id] = Node(node_id, raw["class_type"], raw["inputs"], _title(raw))
        else:
            faults.append(
                Fault(("graph", node_id), f"Node {_short(node_id)} {problem}.", "workflow_malformed", node_id)
            )
    for node in nodes.values():
        for name, link in node.links():
            if link.node not in graph:
                problem = f"{_short(name)} comes from node {_short(link.node)}, which does not exist."
                faults.append(node.fault(problem, "workflow_link_broken", input=name, value=link.node))
    return nodes, faults + _cycle_faults(nodes)


def as_link(value: object) -> Link | None:
    """All that ComfyUI follows as a link, such as `["3", 0.0]` and `["3", false]`, so that no node runs unseen."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float):
        return Link(value[0], value[1])
    return None


def upstream(nodes: Mapping[str, Node], ends: list[str]) -> set[str]:
    """Ids of these nodes and of all that they need."""
    found: set[str] = set()
    waiting = list(ends)
    while waiting:
        node_id = waiting.pop()
        if node_id in nodes and node_id not in found:
            found.add(node_id)
            waiting += [link.node for _, link in nodes[node_id].links()]
    return found


def _broken(node_id: str, raw: object) -> str | None:
    if not 0 < len(node_id) <= MAX_ID_CHARACTERS:
        return f"must have an id of 1 to {MAX_ID_CHARACTERS} characters"
    if not isinstance(raw, dict) or not isinstance(raw.get("class_type"), str):
        return "has no class_type"
    return None if isinstance(raw.get("inputs"), dict) else "has no inputs"


def _title(raw: Mapping[str, Any]) -> str:
    meta = raw.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return title if isinstance(title, str) else ""


def _cycle_faults(nodes: Mapping[str, Node]) -> list[Fault]:
    """One fault for each node that is left when nodes whose inputs are all known are taken away, again and again."""
    needs = {node.id: {link.node for _, link in node.links()} & nodes.keys() for node in nodes.values()}
    while ready := [node_id for node_id, needed in needs.items() if not needed]:
        for node_id in ready:
            del needs[node_id]
        for needed in needs.values():
            needed.difference_update(ready)
    in_cycles = [node_id for node_id in needs if node_id in _reached_from(needs, node_id)]
    return [nodes[node_id].fault("it takes its own result, in a circle.", "workflow_cycle") for node_id in in_cycles]


def _reached_from(needs: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(needs[start])
    while waiting:
        node_id = waiting.pop()
        if node_id in needs and node_id not in found:
            found.add(node_id)
            waiting += needs[node_id]
    return found


def _short(text: str) -> str:
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return clean if len(clean) <= _SHOWN_CHARACTERS else f"{clean[:_SHOWN_CHARACTERS]}…"
