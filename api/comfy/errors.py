"""ComfyUI's ways to say no, as MASUKA's errors.

EngineError
├── EngineDied         comfyui_died            its process is gone, and with it every prompt it knew
│                      out_of_memory           so is it, and most likely the kernel has killed it for its memory
├── EngineSilent       comfyui_not_answering   it lives, but does not answer HTTP
├── PromptLost         prompt_lost             it neither queues, runs nor remembers the prompt: safe to submit again
├── PromptRejected     workflow_invalid, lora_missing, model_missing, value_invalid   nothing was run
└── PromptFailed       disk_full, lora_unreadable, model_unreadable, node_failed   a node raised
    └── OutOfMemory    out_of_memory           for want of memory: a lighter way may do
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.comfy.history import NodeFailure
from api.errors import EngineError

_MODEL_INPUTS = frozenset({"unet_name", "ckpt_name", "vae_name", "clip_name", "clip_name1", "clip_name2"})
_VALUE_PROBLEMS = frozenset(
    {
        "value_not_in_list",
        "invalid_input_type",
        "value_smaller_than_min",
        "value_bigger_than_max",
        "custom_validation_failed",
    }
)
_OUT_OF_MEMORY_MARKS = ("out of memory", "can't allocate memory", "not enough memory")
_DISK_FULL_MARKS = ("No space left on device", "Disk quota exceeded")


OUT_OF_MEMORY_HINT = (
    "Lower width and height, use fewer LoRAs or a smaller variant of the base model, "
    "or end what else uses the GPU and the memory."
)


class EngineDied(EngineError):
    """ComfyUI ended while it was needed."""

    default_code = "comfyui_died"


class EngineSilent(EngineError):
    """ComfyUI does not answer."""

    default_code = "comfyui_not_answering"


class PromptLost(EngineError):
    """ComfyUI does not know this prompt any more."""

    default_code = "prompt_lost"


class PromptFailed(EngineError):
    """A node of the workflow failed."""

    default_code = "node_failed"


class OutOfMemory(PromptFailed):
    """A node of the workflow ran out of memory."""

    default_code = "out_of_memory"

    def __init__(self, detail: str, *, node_type: str) -> None:
        super().__init__(detail, hint=OUT_OF_MEMORY_HINT)
        self.node_type = node_type


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """One reason why ComfyUI would not run a node."""

    node: str
    class_type: str
    input: str | None
    kind: str
    message: str
    value: Any = None

    def __str__(self) -> str:
        where = f"{self.class_type} (node {self.node})" + (f", {self.input}" if self.input else "")
        return f"{where}: {self.message}"


class PromptRejected(EngineError):
    """ComfyUI refuses this workflow."""

    default_code = "workflow_invalid"

    def __init__(self, detail: str, *, code: str, problems: tuple[NodeProblem, ...] = (), value: Any = None) -> None:
        super().__init__(detail, code=code, value=value, hint=_REJECTION_HINTS[code])
        self.problems = problems


_REJECTION_HINTS = {
    "lora_missing": "Check that the LoRA's file is in ComfyUI's LoRA folder.",
    "model_missing": "Install the base model again with `masuka install`.",
    "value_invalid": "Change the value.",
    "workflow_invalid": "Open the workflow in the canvas, mend the node, and export it in API format again.",
}


def rejection(body: Mapping[str, Any]) -> PromptRejected:
    """What ComfyUI's answer to `POST /prompt` says against a graph: HTTP 400, or 200 with some outputs refused."""
    problems = tuple(_problems(body.get("node_errors") or {}))
    if problems:
        detail = "; ".join(str(problem) for problem in problems)
        return PromptRejected(detail, code=_code(problems[0]), problems=problems, value=problems[0].value)
    error = body.get("error") or {}
    parts = (error.get("message", "ComfyUI refused the workflow."), error.get("details", ""))
    return PromptRejected(" ".join(dict.fromkeys(part for part in parts if part)), code="workflow_invalid")


def _code(problem: NodeProblem) -> str:
    if problem.kind not in _VALUE_PROBLEMS:
        return "workflow_invalid"
    if problem.kind == "value_not_in_list" and problem.input == "lora_name":
        return "lora_missing"
    if problem.kind == "value_not_in_list" and problem.input in _MODEL_INPUTS:
        return "model_missing"
    return "value_invalid"


def _problems(node_errors: Mapping[str, Mapping[str, Any]]) -> Iterator[NodeProblem]:
    for node, about in node_errors.items():
        for error in about["errors"]:
            extra = error.get("extra_info") or {}
            value = extra.get("received_value")
            yield NodeProblem(
                node=node,
                class_type=about["class_type"],
                input=extra.get("input_name"),
                kind=error["type"],
                # For a list ComfyUI's details name every file it has: say which value was wrong and stop there.
                message=f"{value!r} is not there" if error["type"] == "value_not_in_list" else _sentence(error),
                value=value,
            )


def _sentence(error: Mapping[str, Any]) -> str:
    return ", ".join(part for part in (error["message"], error.get("details")) if part)


def failure_error(failure: NodeFailure) -> PromptFailed:
    """The error for a prompt that ended because a node raised."""
    where = f"{failure.node_type or 'Node'} (node {failure.node or '?'})"
    if _is_out_of_memory(failure):
        return OutOfMemory(f"{where} ran out of memory.", node_type=failure.node_type)
    if any(mark in failure.message for mark in _DISK_FULL_MARKS):
        return PromptFailed(f"{where} found the disk full.", code="disk_full", hint="Free some space.")
    detail = f"{where} failed: {failure.message} ({failure.exception_type})"
    if failure.exception_type.endswith("SafetensorError"):
        return PromptFailed(detail, code="lora_unreadable" if "Lora" in failure.node_type else "model_unreadable")
    return PromptFailed(detail)


def _is_out_of_memory(failure: NodeFailure) -> bool:
    # CUDA raises torch.OutOfMemoryError; the CPU's allocator a RuntimeError that only its text tells apart.
    text = failure.message.lower()
    return failure.exception_type.endswith("OutOfMemoryError") or any(mark in text for mark in _OUT_OF_MEMORY_MARKS)
