"""What may be chosen about a training, with the ranges that are accepted, and the defaults that fill the rest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from api.domain import samples
from api.domain.checkpoint import Rule
from api.domain.expert import Expert
from api.domain.text import storable
from api.errors import InputError

MAX_STEPS = 100_000
DEFAULT_WARMUP_STEPS = 100

LearningRate = Annotated[float, Field(gt=0, le=1, examples=[1e-4], description="Peak learning rate.")]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS, examples=[2000], description="Optimizer steps in all.")]
Rank = Annotated[int, Field(ge=1, le=256, examples=[32], description="Rank of the LoRA; also `network_dim`.")]
Alpha = Annotated[
    float, Field(ge=0.1, le=512, examples=[16], description="The LoRA acts with alpha / rank; also `network_alpha`.")
]
Resolution = Annotated[
    int,
    Field(ge=64, le=2048, multiple_of=64, examples=[1024], description="Edge in pixels of a square of equal area."),
]


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    return text.strip()


SamplePrompt = Annotated[
    str,
    Field(min_length=1, max_length=samples.MAX_PROMPT_CHARACTERS),
    AfterValidator(_one_line),
    AfterValidator(storable),
]


class FluxTrainingOptions(BaseModel):
    """The choices whose defaults are the same on every installation.

    Strict: a number in quotes, NaN, infinity or an unknown field is refused by name.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    trigger_word: Annotated[str, Field(max_length=100), AfterValidator(_one_line)] | None = Field(
        None, description="The word that stands for the subject; default: the dataset's."
    )
    batch_size: int = Field(1, ge=1, le=64, description="Images per step on the GPU.")
    gradient_accumulation_steps: int = Field(1, ge=1, le=64, description="Batches per optimizer step.")
    seed: int = Field(42, ge=0, le=2**53 - 1, description="Seed of initialisation, shuffling and noise.")
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"] = "constant_with_warmup"
    optimizer: Literal["auto", "adamw8bit", "adamw_bf16"] = Field(
        "auto", description="`auto`: 8-bit AdamW where there is CUDA, else AdamW in bf16."
    )
    mixed_precision: Literal["bf16"] = "bf16"
    base_model_precision: Literal["auto", "no_change", "fp8-quanto", "int8-quanto", "int4-quanto", "nf4-bnb"] = Field(
        "auto", description="How the frozen base model is held; `auto`: fp8 on a GPU where bf16 may not fit."
    )
    gradient_checkpointing: bool = Field(True, description="Less memory, about 30 % more time.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout inside the LoRA.")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="Share of steps without caption.")
    target_modules: Literal["attention", "attention+context", "attention+context+feed_forward"] = Field(
        "attention", description="`attention`: to_q, to_k, to_v and to_out.0."
    )
    checkpoint_interval: int = Field(250, ge=1, le=MAX_STEPS, description="Steps between training checkpoints.")
    checkpoints_kept: int = Field(5, ge=1, le=100, description="Newest training checkpoints kept, on disk and stored.")
    checkpoints_best: int = Field(1, ge=0, le=20, description="Of all before them, those kept for their low loss.")
    checkpoints_every: int | None = Field(
        None, ge=1, le=MAX_STEPS, description="Those at a multiple of so many steps stay, too."
    )
    expert: Expert = Field(
        default_factory=dict,
        description="Further options of SimpleTuner itself; `GET /api/training/options` lists them.",
    )
    sample_prompts: Annotated[list[SamplePrompt], Field(max_length=samples.MAX_PROMPTS)] | None = Field(
        None,
        description="Drawn at every training checkpoint; `[]`: nothing is. Default: two prompts with the trigger word, "
        "or without one the first two captions.",
    )
    sample_seed: int = Field(42, ge=0, le=2**53 - 1, description="Seed of every sample.")
    sample_steps: int | None = Field(None, ge=1, le=100, description="Steps of a sample; default: by the base model.")


class FluxTrainingConfig(FluxTrainingOptions):
    """Everything decided: what one training runs with, and what its row records."""

    @property
    def checkpoint_rule(self) -> Rule:
        return Rule(self.checkpoints_kept, self.checkpoints_every, self.checkpoints_best)

    learning_rate: LearningRate
    steps: Steps
    rank: Rank
    alpha: Alpha
    resolution: Resolution
    lr_warmup_steps: int = Field(ge=0, le=MAX_STEPS)


@dataclass(frozen=True, slots=True)
class FluxDefaults:
    """The installation's `DEFAULT_*` settings."""

    learning_rate: float
    steps: int
    rank: int
    alpha: float
    resolution: int


class FluxTrainingRequest(FluxTrainingOptions):
    """What a request may say about the training itself; what it leaves out comes from `FluxDefaults`."""

    learning_rate: LearningRate | None = None
    steps: Steps | None = None
    rank: Rank | None = Field(None, validation_alias=AliasChoices("rank", "network_dim"))
    alpha: Alpha | None = Field(None, validation_alias=AliasChoices("alpha", "network_alpha"))
    resolution: Resolution | None = None
    lr_warmup_steps: int | None = Field(
        None, ge=0, le=MAX_STEPS, description="Default 100, at most a tenth of a short training."
    )

    def resolve(self, defaults: FluxDefaults, preset: Mapping[str, Any] | None = None) -> FluxTrainingConfig:
        """The full configuration: what the request says, then `preset`, then `defaults`.

        Raises InputError `warmup_too_long` if the learning rate would never reach its peak.
        """
        return resolved(asdict(defaults) | dict(preset or {}), self.chosen())

    def chosen(self) -> dict[str, Any]:
        """What the request itself says about the training."""
        return self.model_dump(include=set(FluxTrainingConfig.model_fields), exclude_unset=True, exclude_none=True)


def resolved(base: Mapping[str, Any], chosen: Mapping[str, Any]) -> FluxTrainingConfig:
    """`base` with what was `chosen` over it. The warm-up of `base` bows to chosen steps, a chosen one does not.

    Raises InputError `warmup_too_long`.
    """
    steps = chosen.get("steps", base["steps"])
    usual = base.get("lr_warmup_steps")
    if usual is None or "steps" in chosen:
        usual = min(DEFAULT_WARMUP_STEPS if usual is None else usual, steps // 10)
    warmup = chosen.get("lr_warmup_steps", usual)
    if warmup >= steps:
        raise InputError(
            f"lr_warmup_steps must be below steps ({steps}), got {warmup}.",
            code="warmup_too_long",
            value=warmup,
            hint="Leave lr_warmup_steps out, or train for more steps.",
        )
    return FluxTrainingConfig.model_validate({**base, **chosen, "lr_warmup_steps": warmup})
