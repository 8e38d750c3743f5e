"""SimpleTuner's own options in a request: which of the installed version's a client may set, and to what. Pure.

Allowed is what can only be a number, yes or no, or one of a fixed list, less what MASUKA decides itself. A free text
is never passed on, as the trainer might take it for a file, an address or a program.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from api.errors import Fault, FaultsError

Value = bool | int | float | str
Expert = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Value],
    Field(max_length=100, examples=[{"flow_schedule_shift": 2.0, "max_grad_norm": 1.0}]),
]
LARGEST = 2**53 - 1


class OptionKind(StrEnum):
    FLAG = "flag"
    INTEGER = "integer"
    NUMBER = "number"
    CHOICE = "choice"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the trainer, as its own parser has it."""

    name: str
    kind: OptionKind
    choices: tuple[str | int | float, ...] = ()
    least: float | None = None
    most: float | None = None
    families: tuple[str, ...] = ()
    """Of base models, when it is not for all."""


Options = Mapping[str, Option]

FIELDS = {
    "base_model_precision": "base_model_precision",
    "caption_dropout_probability": "caption_dropout",
    "checkpoint_step_interval": "checkpoint_interval",
    "checkpoints_total_limit": "checkpoints_kept",
    "flux_lora_target": "target_modules",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "gradient_checkpointing",
    "learning_rate": "learning_rate",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lora_rank": "rank",
    "lr_warmup_steps": "lr_warmup_steps",
    "max_train_steps": "steps",
    "mixed_precision": "mixed_precision",
    "resolution": "resolution",
    "seed": "seed",
    "train_batch_size": "batch_size",
}
"""Options that have a field of their own in the request, which checks more."""

_OUTSIDE = (
    "card|config|dir|external|file|filenames|files|hf|host|hub|ip|key|network|password|path|port|publish|publishing|"
    "push|remote|report|script|secret|token|tracker|trust|upload|uri|url|webhook"
)
_DECIDED = {
    rf"(.*_)?({_OUTSIDE})(_.*)?": "it has to do with files, programs or other machines",
    r"(num_)?(ema_)?(validate|validation|eval|evaluation)(_.*)?": "samples are made as the request's own fields say",
    r"(crepa|irepa|urepa)(_.*)?|(.*_)?nsfw(_.*)?": "it loads a further model from the internet, with its code",
    r"disk_low_.*": "MASUKA waits for disk space itself",
    r"(fsdp|deepspeed|accelerate|context_parallel|dynamo|machine|num_machines|num_processes|local)(_.*)?": (
        "one trainer runs on one GPU"
    ),
    r"(checkpoint(s|ing)?|resume)_.*": "training checkpoints are stored and resumed from by MASUKA",
    r"(model|data_backend|dataset|conditioning|audio)_.*|caption_strategy|(.*_)?instance_prompt": (
        "model and dataset are those of the session"
    ),
    r"delete_.*|(minimum|maximum)_image_size|aspect_bucket_(rounding|alignment)|target_downsample_size|"
    r"max_upscale_threshold|resolution_type|disable_bucket_pruning|allow_dataset_oversubscription|vae_batch_size": (
        "the preflight report has told which pictures are used, and how they are cut"
    ),
    r"(use_)?ema(_.*)?|use_dora|lora_(type|format|init_type)|init_lo.*|peft_.*|singlora_.*|fuse_qkv_.*|"
    r"(train|save)_text_encoder|control(net)?(_.*)?|prediction_type|distillation_.*|refiner_.*|slider_.*": (
        "the LoRA would be of another form than the one that is checked, resumed and drawn with"
    ),
    r"num_train_epochs|ignore_final_epochs|disable_benchmark": "a training ends after its steps",
}
_FETCHED_CHOICE = re.compile(rf"(.*[-_+])?({_OUTSIDE})([-_+].*)?")
"""As `flash-attn-3-hub`, which downloads a program."""
_REASONS = {re.compile(pattern): reason for pattern, reason in _DECIDED.items()}


def offered(options: Options, family: str) -> list[Option]:
    """What a request may set for a base model of this family."""
    found = [option for option in options.values() if _refusal(option, family) is None]
    return [replace(option, choices=_safe(option.choices)) for option in found]


def check(expert: Mapping[str, Value], options: Options, version: str, family: str) -> None:
    """Raises FaultsError `expert_refused` with every option that cannot be passed on, and why."""
    faults = [_fault(name, value, options, version, family) for name, value in expert.items()]
    found = [fault for fault in faults if fault is not None]
    if found:
        raise FaultsError(
            found, code="expert_refused", hint="GET /api/training/options lists what can be set, and to what."
        )


def _fault(name: str, value: Value, options: Options, version: str, family: str) -> Fault | None:
    def fault(code: str, message: str, shown: object = name) -> Fault:
        return Fault(("expert", name), f"expert.{name}: {message}", code, shown)

    if name not in options:
        near = difflib.get_close_matches(name, [option.name for option in offered(options, family)], n=1)
        meant = f"; did you mean {near[0]}?" if near else "."
        return fault("expert_option_unknown", f"SimpleTuner {version} has no such option{meant}")
    option = options[name]
    reason = _refusal(option, family)
    if reason is not None:
        return fault("expert_option_reserved", reason)
    wrong = _wrong(option, value)
    return None if wrong is None else fault("expert_value_invalid", wrong, value)


def _refusal(option: Option, family: str) -> str | None:
    """Why no request may set this option; None if it may."""
    if option.name in FIELDS:
        return f"set the field {FIELDS[option.name]} of the request."
    reason = next((reason for pattern, reason in _REASONS.items() if pattern.fullmatch(option.name)), None)
    if reason is not None:
        return f"not for requests: {reason}."
    if option.kind is OptionKind.TEXT:
        return "not for requests: it takes any text, which might name a file, an address or a program."
    if option.families and family not in option.families:
        return f"it is for {', '.join(option.families)}, not for {family}."
    return None


def _wrong(option: Option, value: Value) -> str | None:
    """Why the option cannot be this; None if it can."""
    if not _is_of_kind(option, value):
        return f"must be {_KINDS[option.kind]}, got {value!r}."
    choices = _safe(option.choices)
    if option.choices and value not in choices:
        listed = ", ".join(map(str, choices))
        near = difflib.get_close_matches(str(value), map(str, choices), n=1)
        return f"must be one of: {listed}" + (f"; did you mean {near[0]}?" if near else ".")
    if isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) > LARGEST:
            return "must be a finite number of usual size."
        if option.least is not None and value < option.least:
            return f"must be at least {option.least:g}."
        if option.most is not None and value > option.most:
            return f"must be at most {option.most:g}."
    return None


def _safe(choices: tuple[str | int | float, ...]) -> tuple[str | int | float, ...]:
    return tuple(choice for choice in choices if not _FETCHED_CHOICE.fullmatch(str(choice)))


_KINDS = {
    OptionKind.FLAG: "true or false",
    OptionKind.INTEGER: "a whole number",
    OptionKind.NUMBER: "a number",
    OptionKind.CHOICE: "a text of its list",
    OptionKind.TEXT: "nothing",
}


def _is_of_kind(option: Option, value: Value) -> bool:
    match option.kind:
        case OptionKind.FLAG:
            return isinstance(value, bool)
        case OptionKind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case OptionKind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case OptionKind.CHOICE:
            return isinstance(value, str)
        case OptionKind.TEXT:
            return False
