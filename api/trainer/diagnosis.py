"""Why a training ended, from how its process ended, what it said and what it logged."""

import re
import signal
from dataclasses import dataclass

from api.trainer.state import TrainingState

MESSAGE_CHARS = 600
_LOG_LINES = 40
_EXCEPTION_LINES = 3
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, slots=True)
class RunExit:
    """How a run's process ended, as the runner wrote it down."""

    returncode: int | None
    """Says little: 3.1.6 exits 0 on most failures."""
    signal: int | None
    requested: bool
    """Somebody asked the runner to stop it."""
    started_at: float
    ended_at: float
    events: int
    events_lost: int
    """Messages that a full disk did not take."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a training failed, for its row: a stable code, what went wrong, what to do."""

    code: str
    message: str
    hint: str


_HINTS = {
    "out_of_memory": "Lower `resolution` or `batch_size`, or set `base_model_precision` to int8-quanto or nf4-bnb.",
    "disk_full": "Free some disk space, then retry: the training resumes from its newest training checkpoint.",
    "model_gated": "Accept the model's licence on huggingface.co and set HF_TOKEN, then install the base model again.",
    "model_missing": "Files of the base model are missing; `masuka install` repairs them.",
    "dataset_refused": "Check that the dataset has images, and that they are not smaller than 64 pixels.",
    "bad_option": "The installed SimpleTuner does not take this configuration; see the training's log.",
    "killed": "The machine was probably out of memory (RAM); close other programs or use a smaller precision.",
    "trainer_lost": "The machine or the trainer's runner was stopped; retry to resume from the newest checkpoint.",
    "trainer_interrupted": "Somebody stopped the trainer from outside; retry to resume from the newest checkpoint.",
    "training_diverged": "Lower `learning_rate`, or raise `lr_warmup_steps`.",
    "lora_not_written": "Retry: the training goes on from its newest checkpoint and saves its LoRA again.",
    "trainer_failed": "See the training's log for the whole story.",
}

_INTERRUPTIONS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that ask to stop. A trainer says so only when it gets SIGINT after it has read its configuration."""

# In this order: the first that matches wins. Texts of SimpleTuner 3.1.6 and 4.8.0, PyTorch, huggingface_hub, Linux.
_PATTERNS = {
    "out_of_memory": r"CUDA out of memory|HIP out of memory|OutOfMemoryError|CUDA error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator: |^MemoryError",
    # torch.save does not name the cause: what it wrote is shorter than it should be.
    "disk_full": r"No space left on device|Errno 28\b|Disk quota exceeded|Errno 122\b"
    r"|inline_container\.cc.*unexpected pos|PytorchStreamWriter failed writing|basic_ios::clear: iostream error",
    "model_gated": r"GatedRepoError|gated repo|Access to model .* is restricted|40[13] Client Error",
    "dataset_refused": r"Dataset produced no usable samples|produce zero usable batches"
    r"|dataset directories do not exist|No images were discovered|instance_data_dir",
    "model_missing": r"couldn't connect to |OfflineModeIsEnabled|LocalEntryNotFoundError"
    r"|RepositoryNotFoundError|Error no file named|is not a (local folder|valid model identifier)"
    r"|not the path to a directory|not a folder containing a .* file|does not appear to have a file named|Repo id must",
    "bad_option": r"unrecognized arguments|invalid choice|expected one argument|Could not parse command line"
    r"|train\.py: error|Optimizer .* not found|has been removed (in favour of|due to)"
    r"|not using bf16 precision, but the optimizer",
}


_OF_THE_MACHINE = ("out_of_memory", "disk_full")


def failure(code: str, message: str) -> Failure:
    """A failure with the hint that belongs to `code`."""
    return Failure(code, message[:MESSAGE_CHARS], _HINTS[code])


def diagnose(end: RunExit | None, state: TrainingState, log_tail: str) -> Failure:
    """Why a run that did not succeed ended so; `end` is None when even its runner died.

    What the trainer said in its failure message decides. Only what the machine lacks is looked for among the
    exceptions in its log, too: 4.8 says no more than that something could not be written.
    """
    ended_by_itself = end is not None and end.signal is None and not state.interrupted
    text = state.error or _last_words(log_tail, whole=ended_by_itself)
    code = _match(text)
    if code is not None:
        return failure(code, _gist(text, code))
    cause = _exceptions(log_tail)
    code = _match(cause)
    if state.error and code in _OF_THE_MACHINE:
        return failure(code, f"{_gist(text)} {_gist(cause, code)}")
    if state.interrupted:
        return failure("trainer_interrupted", "The trainer was interrupted.")
    if state.dataset_failed:
        return failure("dataset_refused", f"The trainer could not read the dataset: {_gist(text)}")
    if end is None:
        return failure("trainer_lost", "The trainer's runner is gone and left no word about how the run ended.")
    if end.events_lost:
        return failure("disk_full", f"The disk was full: {end.events_lost} messages of the trainer are lost.")
    if end.signal == signal.SIGKILL:
        return failure("killed", "The trainer was killed by the system.")
    if end.signal is not None:
        code = "trainer_interrupted" if end.signal in _INTERRUPTIONS else "trainer_failed"
        return failure(code, f"The trainer died of {signal.Signals(end.signal).name}.")
    return failure("trainer_failed", _gist(text) or f"The trainer ended with exit code {end.returncode}.")


def _match(text: str) -> str | None:
    return next((code for code, pattern in _PATTERNS.items() if re.search(pattern, text, re.MULTILINE)), None)


def _exceptions(log: str) -> str:
    """The first line of each exception that the log holds with its traceback."""
    lines = _plain(log).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    below = (lines[start + 1 :] for start in starts)
    return "\n".join(next((line for line in rest if line and not line.startswith(" ")), "") for rest in below)


def _last_words(log: str, *, whole: bool) -> str:
    """What the log ends with, the telling line first: the exception of its last traceback, or its newest lines.

    A log that was broken off (not `whole`) ends with any line: it tells nothing without a traceback.
    """
    lines = _plain(log).splitlines()
    tracebacks = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if not tracebacks and not whole:
        return ""
    if not tracebacks:
        return "\n".join(reversed(lines[-_LOG_LINES:]))
    below = lines[tracebacks[-1] + 1 :]
    exception = next((number for number, line in enumerate(below) if line and not line.startswith(" ")), 0)
    return "\n".join(below[exception : exception + _EXCEPTION_LINES])


def _plain(log: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", log)


def _gist(text: str, code: str | None = None) -> str:
    """The line that says it: the first that matches `code`, or the first of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if code is not None and re.search(_PATTERNS[code], line)]
    return next(iter(telling or lines), "")
