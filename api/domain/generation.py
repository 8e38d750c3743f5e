"""What may be asked of a picture, and what the request comes to once every choice is made."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.domain.text import Name, Prompt
from api.domain.webhook import WebhookUrl
from api.errors import InputError

MAX_SEED = 2**53 - 1
"""ComfyUI takes 2^64 - 1, but a JSON number in a browser does not."""
MAX_LORAS = 8
MAX_IMAGES = 100
SIZE_STEP = 16
COMFYUI_MAX_SIDE = 16384
"""`MAX_RESOLUTION` in ComfyUI's nodes.py; the installation's own limit is MASUKA_MAX_SIDE."""

PARAMETERS = frozenset(
    {
        *("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "true_cfg_scale"),
        *("width", "height", "seed"),
    }
)
"""The fields of a request that are parameters of workflows."""

Scale = Annotated[float, Field(ge=-2, le=2, description="How strongly the LoRA is applied.")]
ModelId = Annotated[UUID, Field(strict=False)]


class LoraChoice(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model_id: ModelId | None = None
    checkpoint_id: ModelId | None = Field(None, description="The LoRA of a training checkpoint instead of a model.")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _one_lora(self) -> Self:
        if (self.model_id is None) == (self.checkpoint_id is None):
            raise ValueError("give either model_id or checkpoint_id")
        return self


class PictureSettings(BaseModel):
    """What is the same for all pictures of a request.

    Strict: a number in quotes, NaN, infinity or an unknown field is refused by name.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    negative_prompt: Prompt = ""
    num_inference_steps: int = Field(28, ge=1, le=200)
    guidance_scale: float = Field(3.5, ge=0, le=100, description="Flux's distilled guidance.")
    true_cfg_scale: float = Field(
        1.0, ge=1, le=100, description="Above 1 the negative prompt has an effect, at twice the time."
    )
    width: int = Field(1024, ge=SIZE_STEP, le=COMFYUI_MAX_SIDE, multiple_of=SIZE_STEP)
    height: int = Field(1024, ge=SIZE_STEP, le=COMFYUI_MAX_SIDE, multiple_of=SIZE_STEP)
    base_model: Name | None = Field(None, description="Default: the LoRA's own.")
    loras: list[LoraChoice] = Field(default_factory=list, max_length=MAX_LORAS)
    add_trigger_words: bool = Field(True, description="Put the LoRAs' trigger words in front of the prompt.")
    workflow: Name | None = Field(None, description="Template to use; default: the base model's own.")
    webhook_url: WebhookUrl | None = None

    def check_size(self, max_side: int) -> None:
        """Raises InputError `size_too_large`."""
        for name, side in (("width", self.width), ("height", self.height)):
            if side > max_side:
                raise InputError(
                    f"{name} must be at most {max_side}, got {side}.",
                    code="size_too_large",
                    value=side,
                    hint="Ask for a smaller picture, or raise MASUKA_MAX_SIDE.",
                )

    def warnings(self) -> list[str]:
        if self.negative_prompt and self.true_cfg_scale <= 1:
            return ["negative_prompt has no effect: Flux needs true_cfg_scale above 1 for it."]
        return []


class GenerateImageRequest(PictureSettings):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"prompt": "a photo of ohwx on a blue background", "width": 1024, "height": 1024, "seed": 7}
        },
    )

    model_id: ModelId | None = Field(None, description="The LoRA; none: the bare base model.")
    checkpoint_id: ModelId | None = Field(None, description="The LoRA of a training checkpoint, to try it.")
    prompt: Prompt
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="None: a random one, which the asset records.")
    lora_scale: Scale = 1.0
    num_images: int = Field(1, ge=1, le=MAX_IMAGES, description="Pictures with seeds seed, seed + 1, ...")

    def lora_choices(self) -> list[LoraChoice]:
        """`model_id`, `checkpoint_id` and `loras` as one stack. Raises InputError as `require_stack` does."""
        own = [{"model_id": self.model_id}, {"checkpoint_id": self.checkpoint_id}]
        named = [LoraChoice(**one, scale=self.lora_scale) for one in own if any(one.values())]
        return require_stack([*named, *self.loras])

    def parameters(self) -> dict[str, Any]:
        """What of this is for the workflow: a named one keeps its own defaults for what was not said."""
        names = PARAMETERS if self.workflow is None else PARAMETERS & (self.model_fields_set | {"prompt"})
        return {name: getattr(self, name) for name in names}

    def seeds(self, random_seed: int) -> list[int]:
        """One seed per picture. Raises InputError as `seeds_from` does."""
        return seeds_from(random_seed if self.seed is None else self.seed, self.num_images)


def require_stack(stack: list[LoraChoice]) -> list[LoraChoice]:
    """Raises InputError `too_many_loras` for more than 8, `lora_repeated` for the same one twice."""
    if len(stack) > MAX_LORAS:
        raise InputError(
            f"At most {MAX_LORAS} LoRAs can be stacked, got {len(stack)}.", code="too_many_loras", value=len(stack)
        )
    ids = [choice.model_id or choice.checkpoint_id for choice in stack]
    if len(set(ids)) != len(ids):
        raise InputError(
            "The same LoRA is named twice.", code="lora_repeated", hint="Name it once, with the scale you want."
        )
    return stack


def seeds_from(first: int, count: int) -> list[int]:
    """One seed per picture. Raises InputError `seed_out_of_range` when the last would be too large."""
    if first + count - 1 > MAX_SEED:
        raise InputError(
            f"seed + num_images - 1 must be at most {MAX_SEED}.",
            code="seed_out_of_range",
            value=first,
            hint="Take a smaller seed.",
        )
    return list(range(first, first + count))


def affinity(base_model: str, loras: list[dict[str, Any]]) -> str:
    """Jobs with the same one need no model or LoRA switch between them."""
    return "|".join([base_model, *(f"{lora['file']}@{lora['scale']}" for lora in loras)])
