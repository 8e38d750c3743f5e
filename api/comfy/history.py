"""What `/history` and `/queue` of ComfyUI say of a prompt, parsed into an outcome: the truth about every prompt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class OutcomeStatus(StrEnum):
    SUCCESS = "success"
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Output:
    """One file that an output node has written into ComfyUI's output folder."""

    node: str
    key: str
    """ComfyUI's name for the kind: `images` also for video (with `animated`), `gifs`, `audio`, ..."""
    filename: str
    subfolder: str
    animated: bool


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """The exception that ended a prompt."""

    node: str
    node_type: str
    exception_type: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a prompt ended; `failure` is there if and only if the status is error."""

    status: OutcomeStatus
    outputs: tuple[Output, ...] = ()
    cached_nodes: frozenset[str] = frozenset()
    failure: NodeFailure | None = None
    lora_complaints: tuple[str, ...] = ()
    """Lines of ComfyUI's log about LoRAs that were applied in part or not at all; its API calls that success."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Ids of the prompts that ComfyUI runs and of those that wait, in the order in which they will run."""

    running: tuple[str, ...]
    pending: tuple[str, ...]

    def __contains__(self, prompt_id: object) -> bool:
        return prompt_id in self.running or prompt_id in self.pending


def parse_queue(body: Mapping[str, Any]) -> Queue:
    """The answer of `GET /queue`: items are lists of number, id, graph, extra data, outputs."""
    running = tuple(item[1] for item in body["queue_running"])
    pending = tuple(item[1] for item in sorted(body["queue_pending"], key=lambda item: item[0]))
    return Queue(running, pending)


def parse_history(body: Mapping[str, Any], prompt_id: str) -> Outcome | None:
    """The answer of `GET /history/{prompt_id}`; None when ComfyUI has no record of an end (yet)."""
    entry = body.get(prompt_id)
    if entry is None:
        return None
    status = entry.get("status") or {}
    messages: dict[str, dict[str, Any]] = dict(status.get("messages", ()))
    cached = frozenset(messages.get("execution_cached", {}).get("nodes", ()))
    if "execution_interrupted" in messages:
        # `status_str` says "error" for an interrupted prompt too.
        return Outcome(OutcomeStatus.INTERRUPTED, cached_nodes=cached)
    outputs = tuple(_outputs(entry.get("outputs", {})))
    if status.get("status_str") == "success":
        return Outcome(OutcomeStatus.SUCCESS, outputs, cached)
    return Outcome(OutcomeStatus.ERROR, outputs, cached, _failure(messages.get("execution_error", {})))


def _failure(data: Mapping[str, Any]) -> NodeFailure:
    return NodeFailure(
        node=str(data.get("node_id", "")),
        node_type=str(data.get("node_type", "")),
        exception_type=str(data.get("exception_type", "")),
        message=str(data.get("exception_message", "ComfyUI did not say why.")).strip(),
    )


def _outputs(by_node: Mapping[str, Mapping[str, Any]]) -> Iterator[Output]:
    """Every saved file under any key; previews (`temp`), inputs and values that are no files are left out."""
    for node, by_key in by_node.items():
        animated = bool(by_key.get("animated", (False,))[0])
        for key, values in by_key.items():
            for value in values if isinstance(values, list) else ():
                if isinstance(value, dict) and value.get("type") == "output":
                    yield Output(node, key, value["filename"], value.get("subfolder", ""), animated)
