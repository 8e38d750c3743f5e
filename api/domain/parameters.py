"""What values the parameters of a template take: from ComfyUI's own limits to a JSON Schema and to checked values."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from api.domain.generation import MAX_SEED
from api.domain.graph import Value
from api.domain.markers import Parameter
from api.domain.nodes import FILE_INPUTS, IMAGE_FOLDER, InputKind, ModelFiles, NodeCatalogue, NodeInput
from api.domain.parameter import ParameterKind, ParameterSpec, shown
from api.domain.workflow import OUTPUT_CLASS, WorkflowTemplate
from api.errors import Fault


def _inputs_of(folder: str) -> Collection[tuple[str, str]]:
    return [place for place, found in FILE_INPUTS.items() if found == folder]


OURS: Mapping[str, Collection[tuple[str, str]]] = {
    "unet_name": _inputs_of("diffusion_models"),
    "weight_dtype": [("UNETLoader", "weight_dtype")],
    "clip_l_name": _inputs_of("text_encoders"),
    "t5xxl_name": _inputs_of("text_encoders"),
    "vae_name": _inputs_of("vae"),
    "filename_prefix": [(OUTPUT_CLASS, "filename_prefix")],
}
"""Parameters that MASUKA fills in itself, the files of the base model and where the picture goes; for each the classes
and inputs that it may set."""
_HUGE = 2**64
"""Where ComfyUI names no limit; an integer of JSON may have any number of digits."""


KNOWN = {
    "prompt": ParameterKind.TEXT,
    "negative_prompt": ParameterKind.TEXT,
    "seed": ParameterKind.INTEGER,
    "width": ParameterKind.INTEGER,
    "height": ParameterKind.INTEGER,
    "num_inference_steps": ParameterKind.INTEGER,
    "guidance_scale": ParameterKind.NUMBER,
    "true_cfg_scale": ParameterKind.NUMBER,
}
"""Parameters that mean the same in every workflow."""
_KINDS = {
    InputKind.INTEGER: ParameterKind.INTEGER,
    InputKind.NUMBER: ParameterKind.NUMBER,
    InputKind.TEXT: ParameterKind.TEXT,
    InputKind.BOOLEAN: ParameterKind.BOOLEAN,
    InputKind.CHOICE: ParameterKind.CHOICE,
}


class Conflict(Exception):
    """Two inputs of one parameter take nothing in common; never leaves this module."""


def spec_of(about: NodeInput, name: str, default: Value | None, files: ModelFiles) -> ParameterSpec | None:
    """What one input takes; None for one that takes no value."""
    if about.kind is InputKind.LINK:
        return None
    if about.folder == IMAGE_FOLDER:
        return ParameterSpec(name, ParameterKind.IMAGE, None)
    kind = _KINDS[about.kind]
    if kind is ParameterKind.CHOICE:
        choices = about.choices if about.folder is None else tuple(sorted(files.get(about.folder, ())))
        return ParameterSpec(name, kind, default, choices=choices)
    if kind not in (ParameterKind.INTEGER, ParameterKind.NUMBER):
        return ParameterSpec(name, kind, default)
    low, high = about.options.get("min", -_HUGE), about.options.get("max", _HUGE)
    return ParameterSpec(name, kind, default, low, high, _whole_step(kind, low, about.options.get("step")))


def specs_of(
    template: WorkflowTemplate, catalogue: NodeCatalogue, files: ModelFiles, max_side: int
) -> tuple[dict[str, ParameterSpec], list[Fault]]:
    """What each parameter takes, without those that MASUKA fills in; classes that are not known are left out."""
    specs: dict[str, ParameterSpec] = {}
    faults = []
    for parameter in template.parameters.values():
        if parameter.name in OURS:
            continue
        try:
            spec = _combined(parameter, catalogue, files)
        except Conflict as exc:
            where = parameter.slots[-1]
            faults.append(
                Fault(
                    ("graph", where.node, "inputs", where.input),
                    f"Parameter {parameter.name} {exc}.",
                    "workflow_parameter_conflict",
                    parameter.name,
                )
            )
            continue
        if spec is not None:
            specs[parameter.name] = _for_people(spec, max_side)
    return specs, faults


def json_schema(specs: Mapping[str, ParameterSpec]) -> dict[str, Any]:
    """The JSON Schema of `parameters` in a request to run the template."""
    return {
        "type": "object",
        "properties": {name: spec.schema() for name, spec in specs.items()},
        "required": [name for name, spec in specs.items() if spec.required],
        "additionalProperties": False,
    }


def resolve(specs: Mapping[str, ParameterSpec], given: Mapping[str, Any]) -> tuple[dict[str, Value], list[Fault]]:
    """Every parameter's value, and what is wrong with those that were given. A `seed` of null counts as not given."""
    given = {name: value for name, value in given.items() if name != "seed" or value is not None}
    defaults = {name: spec.default for name, spec in specs.items() if spec.default is not None}
    values = {**defaults, **{name: value for name, value in given.items() if name in specs}}
    faults = [_unknown(name, specs) for name in given if name not in specs]
    faults += [
        Fault(("parameters", name), f"{name} {problem}.", "workflow_parameter_invalid", value)
        for name, value in values.items()
        if (problem := specs[name].problem(value)) is not None
    ]
    faults += [
        Fault(
            ("parameters", name), f"{name} is needed: the id of an asset or of an input.", "workflow_parameter_missing"
        )
        for name, spec in specs.items()
        if spec.required and name not in given
    ]
    return values, faults


def _unknown(name: str, specs: Mapping[str, ParameterSpec]) -> Fault:
    problem = f"there is no such parameter; there are: {shown(tuple(specs), 30)}"
    return Fault(("parameters", name), f"{name[:64]}: {problem}.", "workflow_parameter_unknown", name)


def _combined(parameter: Parameter, catalogue: NodeCatalogue, files: ModelFiles) -> ParameterSpec | None:
    combined: ParameterSpec | None = None
    for slot in parameter.slots:
        node = catalogue.find(slot.class_type)
        about = node.inputs.get(slot.input) if node else None
        spec = spec_of(about, parameter.name, parameter.default, files) if about else None
        if spec is not None:
            combined = spec if combined is None else _both(combined, spec)
    wanted = KNOWN.get(parameter.name)
    if combined is not None and wanted is not None and combined.kind is not wanted:
        raise Conflict(f"must be {_with_article(wanted)} in every workflow; name this one otherwise")
    return combined


def _both(one: ParameterSpec, other: ParameterSpec) -> ParameterSpec:
    """What both take. Raises Conflict."""
    numbers = {ParameterKind.INTEGER, ParameterKind.NUMBER}
    if one.kind is not other.kind and not {one.kind, other.kind} <= numbers:
        raise Conflict(f"sets inputs of two kinds, {one.kind} and {other.kind}")
    kind = one.kind if one.kind is other.kind else ParameterKind.INTEGER
    choices = tuple(choice for choice in one.choices if choice in other.choices)
    low = max((x for x in (one.minimum, other.minimum) if x is not None), default=None)
    high = min((x for x in (one.maximum, other.maximum) if x is not None), default=None)
    if (low is not None and high is not None and low > high) or (kind is ParameterKind.CHOICE and not choices):
        raise Conflict("sets inputs that take nothing in common")
    step = math.lcm(one.step or 1, other.step or 1)
    return replace(one, kind=kind, minimum=low, maximum=high, step=step if step > 1 else None, choices=choices)


def _for_people(spec: ParameterSpec, max_side: int) -> ParameterSpec:
    """The limits of a parameter that has a meaning of its own, and those of JSON, which ComfyUI does not have."""
    if spec.kind is ParameterKind.INTEGER:
        low, high = spec.minimum, MAX_SEED if spec.maximum is None else min(spec.maximum, MAX_SEED)
        if spec.name in ("width", "height"):
            low, high = max(low or 1, 1), min(high, max_side)
        spec = replace(spec, minimum=None if low is None else max(low, -MAX_SEED), maximum=high)
        if spec.step is not None and isinstance(spec.default, int) and spec.default % spec.step:
            spec = replace(spec, step=None)  # ComfyUI itself takes values between the steps
    return replace(spec, default=None) if spec.name == "seed" else spec


def _whole_step(kind: ParameterKind, low: float | None, step: float | None) -> int | None:
    """ComfyUI counts steps from the minimum, JSON Schema from zero: only where both are the same."""
    if kind is ParameterKind.NUMBER or step is None or step <= 1 or step != int(step) or (low or 0) % step:
        return None
    return int(step)


def _with_article(kind: ParameterKind) -> str:
    return {ParameterKind.INTEGER: "a whole number", ParameterKind.NUMBER: "a number"}.get(kind, kind.value)
