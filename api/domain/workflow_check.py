"""Whether ComfyUI can run a graph: every class, link and value against what ComfyUI says of its nodes. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from api.domain.graph import Link, Node, Value, as_link, read_nodes, upstream
from api.domain.markers import LORAS, Slot
from api.domain.nodes import FILE_INPUTS, IMAGE_FOLDER, InputKind, ModelFiles, NodeCatalogue, NodeClass, NodeInput
from api.domain.parameter import shown
from api.domain.parameters import OURS, spec_of
from api.domain.workflow import OUTPUT_CLASS, WorkflowTemplate
from api.errors import Fault

BATCH = "batch_size"
"""An input that makes a node give several pictures at once."""
_ANY = "*"


def check_template(template: WorkflowTemplate, catalogue: NodeCatalogue, files: ModelFiles) -> list[Fault]:
    """All that is wrong with a template whose structure and markers have been judged already.

    Every node must be of a class that may be used; of the others only those are looked at that the picture needs, as
    ComfyUI does it. `files` are those that the workflow may name.
    """
    nodes, _ = read_nodes(template.graph)
    classes = {node.id: found for node in nodes.values() if (found := catalogue.find(node.class_type))}
    faults = [class_fault(node, catalogue) for node in nodes.values() if node.id not in classes]
    ends = [node.id for node in nodes.values() if node.class_type == OUTPUT_CLASS]
    faults += _output_faults(nodes, ends)
    faults += _lora_faults(template, classes, nodes)
    faults += _misplaced(template, nodes)
    needed = upstream(nodes, ends) if ends else nodes.keys()
    graph = _Graph(nodes, classes, files, _slots(template), _filled(template))
    for node in nodes.values():
        if node.id in needed and node.id in classes:
            faults += _node_faults(node, graph)
            faults += _hidden_link_faults(node, graph)
    return faults


def fixed_files(template: WorkflowTemplate, catalogue: NodeCatalogue, folder: str) -> set[str]:
    """The files of a folder of models that the graph itself names."""
    nodes, _ = read_nodes(template.graph)
    filled = _filled(template)
    return {
        str(node.inputs[about.name])
        for node in nodes.values()
        if (found := catalogue.find(node.class_type)) is not None
        for about in found.inputs.values()
        if about.folder == folder and about.name in node.inputs and (node.id, about.name) not in filled
    }


@dataclass(frozen=True, slots=True)
class _Graph:
    """What one node is judged by."""

    nodes: Mapping[str, Node]
    classes: Mapping[str, NodeClass]
    files: ModelFiles
    marked: set[tuple[str, str]]
    """Inputs that are parameters."""
    filled: set[tuple[str, str]]


def _slots(template: WorkflowTemplate) -> set[tuple[str, str]]:
    return {(slot.node, slot.input) for parameter in template.parameters.values() for slot in parameter.slots}


def _filled(template: WorkflowTemplate) -> set[tuple[str, str]]:
    """Inputs whose value in the graph never counts: a picture, and what MASUKA fills in."""
    return {
        (slot.node, slot.input)
        for parameter in template.parameters.values()
        for slot in parameter.slots
        if _is_filled(parameter.name, _place(slot))
    }


def _is_filled(name: str, place: tuple[str, str]) -> bool:
    # No request sets one of OURS, so at another place it would leave there what the graph says.
    return place in OURS[name] if name in OURS else FILE_INPUTS.get(place) == IMAGE_FOLDER


def _place(slot: Slot) -> tuple[str, str]:
    return slot.class_type, slot.input


def _misplaced(template: WorkflowTemplate, nodes: Mapping[str, Node]) -> Iterator[Fault]:
    """Inputs called by the name of what MASUKA fills in elsewhere."""
    for name, places in OURS.items():
        parameter = template.parameters.get(name)
        for slot in parameter.slots if parameter else ():
            if _place(slot) not in places:
                right = ", ".join(f"{class_type}.{input_}" for class_type, input_ in places)
                problem = f"the marker in its title is wrong: {name} is filled in by MASUKA, and only for {right}."
                yield nodes[slot.node].fault(problem, "workflow_marker_invalid", input=slot.input, value=name)


def class_fault(node: Node, catalogue: NodeCatalogue) -> Fault:
    """Why a node whose class the catalogue does not find cannot be used."""
    name = node.class_type
    if name in catalogue.allowed:
        return node.fault("this node is not installed in ComfyUI.", "workflow_node_not_installed", value=name)
    if name in catalogue.specs or name in catalogue.known:
        problem = "workflows may not use this node; those that only draw may be added to MASUKA_ALLOWED_NODES."
        return node.fault(problem, "workflow_node_not_allowed", value=name)
    like = catalogue.like(name)
    meant = f" Did you mean {' or '.join(like)}?" if like else ""
    return node.fault(f"there is no node of this class.{meant}", "workflow_node_unknown", value=name)


def _output_faults(nodes: Mapping[str, Node], ends: list[str]) -> list[Fault]:
    if not ends:
        problem = f"The workflow has no output: add a {OUTPUT_CLASS} node."
        return [Fault(("graph",), problem, "workflow_no_output")]
    problem = f"a workflow makes one picture, so it has one {OUTPUT_CLASS} node."
    return [nodes[node_id].fault(problem, "workflow_several_outputs") for node_id in ends[1:]]


def _lora_faults(
    template: WorkflowTemplate, classes: Mapping[str, NodeClass], nodes: Mapping[str, Node]
) -> list[Fault]:
    node_id = template.lora_node
    if node_id is None or node_id not in classes or classes[node_id].outputs[:1] == ("MODEL",):
        return []
    problem = f"the marker in its title is wrong: {LORAS} goes where the first output is a MODEL."
    return [nodes[node_id].fault(problem, "workflow_marker_invalid")]


def _node_faults(node: Node, graph: _Graph) -> Iterator[Fault]:
    for about in graph.classes[node.id].inputs.values():
        value = node.inputs.get(about.name)
        link = as_link(value)
        if about.name not in node.inputs:
            if about.required:
                yield node.fault(f"its input {about.name} is missing.", "workflow_input_missing", input=about.name)
        elif link is not None:
            yield from _link_faults(node, about, link, graph)
        elif about.folder is not None:
            if (node.id, about.name) not in graph.filled:
                yield from _file_faults(node, about, value, graph.files)
        elif (problem := _value_problem(about, value)) is not None:
            yield node.fault(f"{about.name} {problem}.", "workflow_value_invalid", input=about.name, value=value)
        elif about.name == BATCH and (value != 1 or (node.id, about.name) in graph.marked):
            problem = f"{BATCH} must be 1, and no parameter: ask for more pictures with num_images."
            yield node.fault(problem, "workflow_value_invalid", input=about.name, value=value)
        elif node.class_type == OUTPUT_CLASS and isinstance(value, str) and is_path(value):
            yield _path_fault(node, about, value)


def _hidden_link_faults(node: Node, graph: _Graph) -> Iterator[Fault]:
    """ComfyUI follows links of inputs that the class does not have, too."""
    about = graph.classes[node.id]
    for name, link in node.links():
        if type(link.slot) is not int:
            problem = f"{name[:64]} comes from output {link.slot} of node {link.node[:64]}: want a whole number."
            yield node.fault(problem, "workflow_link_invalid", input=name, value=link.slot)
        elif name not in about.inputs and not about.is_custom:
            yield node.fault(f"it has no input {name[:64]!r}.", "workflow_link_invalid", input=name)


def _link_faults(node: Node, about: NodeInput, link: Link, graph: _Graph) -> Iterator[Fault]:
    if about.folder is not None:
        problem = f"{about.name} names a file, which must stand there and cannot come from another node."
        yield node.fault(problem, "workflow_link_invalid", input=about.name)
        return
    source = graph.classes.get(link.node)
    if source is None or type(link.slot) is not int:
        return  # told of already
    origin, outputs = graph.nodes[link.node], source.outputs
    if not 0 <= link.slot < len(outputs):
        problem = f"{about.name} comes from output {link.slot} of {origin}, which has {len(outputs)}."
        yield node.fault(problem, "workflow_link_invalid", input=about.name, value=link.slot)
    elif not _fits(outputs[link.slot], about.type):
        problem = f"{about.name} must be {about.type}, and comes from {origin} as {outputs[link.slot]}."
        yield node.fault(problem, "workflow_link_invalid", input=about.name, value=outputs[link.slot])


def _fits(given: str, wanted: str) -> bool:
    return _ANY in (given, wanted) or bool(set(given.split(",")) & set(wanted.split(",")))


def _file_faults(node: Node, about: NodeInput, value: Any, files: ModelFiles) -> Iterator[Fault]:
    available = tuple(sorted(files.get(about.folder or "", ())))
    if value in available:
        return
    if isinstance(value, str) and is_path(value):
        yield _path_fault(node, about, value)
    elif about.folder == IMAGE_FOLDER:
        problem = f"write [[{about.name}]] into its title: pictures come with each request."
        yield node.fault(problem, "workflow_image_not_marked", input=about.name, value=value)
    else:
        problem = f"there is no {about.name} {str(value)[:100]!r}; there are: {shown(available)}."
        yield node.fault(problem, "workflow_model_missing", input=about.name, value=value)


def is_path(value: str) -> bool:
    """Whether it would lead out of the folder that it names a file of."""
    return value.startswith(("/", "\\", "~")) or ".." in value or "\x00" in value or value[1:2] == ":"


def _path_fault(node: Node, about: NodeInput, value: str) -> Fault:
    problem = f"{about.name} leaves its folder: name a file in it."
    return node.fault(problem, "workflow_path_refused", input=about.name, value=value)


def _value_problem(about: NodeInput, value: Any) -> str | None:
    if about.kind is InputKind.LINK:
        return f"must come from another node, as {about.type}"
    if not isinstance(value, Value):
        return "must be a value, or come from another node"
    spec = spec_of(about, about.name, None, {})
    return replace(spec, step=None).problem(value) if spec is not None else None
