"""The base models MASUKA knows: what each is made of, what it needs, what fits which card. Pure.

VRAM figures of FLUX.1-dev: SimpleTuner's FLUX quickstart for training at rank 16 (above 30 GB bf16, 18 GB int8, 9 GB
nf4; 16 GB takes int8 with offloading), and the weights' own size for generation. Sizes in bytes are for planning the
disk; a download is checked against the size and hash that the hub itself names.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from api.errors import InputError

GB = 10**9
FLUX_DEV_REPO = "black-forest-labs/FLUX.1-dev"


class Weights(StrEnum):
    """The type of the single file that ComfyUI reads."""

    BF16 = "bf16"
    FP8 = "fp8"


class TrainingPrecision(StrEnum):
    """The type the frozen base is kept in while a LoRA trains."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    NF4 = "nf4"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a Hugging Face repository and where it goes below the base model's folder."""

    repo: str
    path: str
    target: str
    size_bytes: int
    revision: str = field(default="main", repr=False)
    """Not in its `repr`, by which installed base models are recognised."""


@dataclass(frozen=True, slots=True)
class VramRow:
    """From how much VRAM on a choice fits."""

    at_least_gb: float
    choice: str


@dataclass(frozen=True, slots=True)
class BaseModel:
    name: str
    family: str
    description: str
    disk_gb: float
    """The most it takes, whichever weights are chosen."""
    generation: tuple[VramRow, ...]
    """Descending; empty where any machine will do."""
    training: tuple[VramRow, ...]
    least_drawing_gb: float = 0.0
    """Memory that drawing takes where no row says it."""
    least_training_gb: float = 0.0
    sample_steps: int = 20
    """Of a picture that is drawn during a training."""
    gated_repo: str = ""
    licence: str = ""
    licence_url: str = ""
    shared_files: tuple[ModelFile, ...] = ()
    weight_files: tuple[tuple[Weights, tuple[ModelFile, ...]], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(file, link): files that both engines read, below the base model's folder."""

    def pick_weights(self, vram_gb: float | None) -> Weights:
        """What fits; without a GPU the smallest, which runs on every machine."""
        fitting = [Weights(row.choice) for row in self.generation if vram_gb is not None and vram_gb >= row.at_least_gb]
        return fitting[0] if fitting else Weights.FP8 if self.generation else Weights.BF16

    def pick_training_precision(self, vram_gb: float | None, *, fp8: bool = False) -> TrainingPrecision | None:
        """What fits, or None when nothing does. `fp8`: the card computes in fp8, and then int8 gives way to it."""
        if not self.training:
            return TrainingPrecision.BF16
        fitting = [row.choice for row in self.training if vram_gb is not None and vram_gb >= row.at_least_gb]
        if not fitting:
            return None
        precision = TrainingPrecision(fitting[0])
        return TrainingPrecision.FP8 if fp8 and precision is TrainingPrecision.INT8 else precision

    def drawing_gb(self, weights: Weights) -> float:
        """GiB of the GPU's memory, or of the machine's where there is no GPU."""
        return next((row.at_least_gb for row in self.generation if row.choice == weights), self.least_drawing_gb)

    def training_gb(self, vram_gb: float | None) -> float:
        """The same for a training with the precision that is picked for a card of this size."""
        rows = (row.at_least_gb for row in self.training if vram_gb is not None and vram_gb >= row.at_least_gb)
        return next(rows, self.least_training_gb)

    def comfy_files(self, weights: Weights) -> list[str]:
        """Below the base model's `models` folder, the files that ComfyUI reads."""
        targets = [*(file.target for file in self.files(weights)), *(link for _, link in self.links)]
        return [target.removeprefix("models/") for target in targets if target.startswith("models/")]

    def files(self, weights: Weights) -> tuple[ModelFile, ...]:
        """All that is downloaded with these weights."""
        return (*self.shared_files, *dict(self.weight_files).get(weights, ()))


def _diffusers(path: str, size_bytes: int) -> ModelFile:
    return ModelFile(FLUX_DEV_REPO, path, f"diffusers/{path}", size_bytes)


FLUX_TINY = BaseModel(
    name="flux-tiny",
    family="flux",
    description="A tiny FLUX that draws captioned shapes at 64 px on any machine: the self-test of the whole path.",
    disk_gb=0.03,
    generation=(),
    training=(),
    least_drawing_gb=1.0,  # ComfyUI was seen to hold 0.5 on a CPU, the trainer 0.8
    least_training_gb=1.5,
    sample_steps=12,
    licence="MIT",
    links=(
        ("diffusers/transformer/diffusion_pytorch_model.safetensors", "models/diffusion_models/flux-tiny.safetensors"),
        ("diffusers/text_encoder/model.safetensors", "models/text_encoders/clip_l.safetensors"),
        ("diffusers/text_encoder_2/model.safetensors", "models/text_encoders/t5xxl.safetensors"),
        ("diffusers/vae/diffusion_pytorch_model.safetensors", "models/vae/ae.safetensors"),
    ),
)

FLUX_DEV = BaseModel(
    name="flux-dev",
    family="flux",
    description="FLUX.1-dev by Black Forest Labs, for people, styles and products.",
    disk_gb=68,
    generation=(VramRow(32, Weights.BF16), VramRow(10, Weights.FP8)),
    training=(
        VramRow(31, TrainingPrecision.BF16),
        VramRow(15, TrainingPrecision.INT8),  # a 16 GB card says 15.x
        VramRow(9, TrainingPrecision.NF4),
    ),
    gated_repo=FLUX_DEV_REPO,
    licence="FLUX.1 [dev] Non-Commercial License",
    licence_url=f"https://huggingface.co/{FLUX_DEV_REPO}",
    shared_files=(
        _diffusers("model_index.json", 536),
        _diffusers("scheduler/scheduler_config.json", 273),
        _diffusers("tokenizer/merges.txt", 524_619),
        _diffusers("tokenizer/special_tokens_map.json", 588),
        _diffusers("tokenizer/tokenizer_config.json", 705),
        _diffusers("tokenizer/vocab.json", 1_059_962),
        _diffusers("tokenizer_2/special_tokens_map.json", 2_543),
        _diffusers("tokenizer_2/spiece.model", 791_656),
        _diffusers("tokenizer_2/tokenizer.json", 2_424_235),
        _diffusers("tokenizer_2/tokenizer_config.json", 20_817),
        _diffusers("text_encoder/config.json", 613),
        _diffusers("text_encoder/model.safetensors", 246_144_352),
        _diffusers("text_encoder_2/config.json", 782),
        _diffusers("text_encoder_2/model.safetensors.index.json", 19_885),
        _diffusers("text_encoder_2/model-00001-of-00002.safetensors", 4_994_582_224),
        _diffusers("text_encoder_2/model-00002-of-00002.safetensors", 4_530_066_360),
        _diffusers("transformer/config.json", 378),
        _diffusers("transformer/diffusion_pytorch_model.safetensors.index.json", 121_262),
        _diffusers("transformer/diffusion_pytorch_model-00001-of-00003.safetensors", 9_983_040_304),
        _diffusers("transformer/diffusion_pytorch_model-00002-of-00003.safetensors", 9_949_328_904),
        _diffusers("transformer/diffusion_pytorch_model-00003-of-00003.safetensors", 3_870_584_832),
        _diffusers("vae/config.json", 820),
        _diffusers("vae/diffusion_pytorch_model.safetensors", 167_666_902),
    ),
    weight_files=(
        (
            Weights.BF16,
            (
                ModelFile(
                    FLUX_DEV_REPO,
                    "flux1-dev.safetensors",
                    "models/diffusion_models/flux1-dev.safetensors",
                    23_802_932_552,
                ),
                ModelFile(
                    "comfyanonymous/flux_text_encoders",
                    "t5xxl_fp16.safetensors",
                    "models/text_encoders/t5xxl_fp16.safetensors",
                    9_787_841_024,
                ),
            ),
        ),
        (
            Weights.FP8,
            (
                ModelFile(
                    "Kijai/flux-fp8",
                    "flux1-dev-fp8.safetensors",
                    "models/diffusion_models/flux1-dev-fp8.safetensors",
                    11_901_525_888,
                ),
                ModelFile(
                    "comfyanonymous/flux_text_encoders",
                    "t5xxl_fp8_e4m3fn.safetensors",
                    "models/text_encoders/t5xxl_fp8_e4m3fn.safetensors",
                    4_893_934_904,
                ),
            ),
        ),
    ),
    links=(
        ("diffusers/text_encoder/model.safetensors", "models/text_encoders/clip_l.safetensors"),
        ("diffusers/vae/diffusion_pytorch_model.safetensors", "models/vae/ae.safetensors"),
    ),
)

BASE_MODELS = {base.name: base for base in (FLUX_DEV, FLUX_TINY)}


def get(name: str) -> BaseModel:
    """Raises InputError `base_model_unknown`."""
    if name not in BASE_MODELS:
        raise InputError(
            f"There is no base model {name!r}.",
            code="base_model_unknown",
            value=name,
            hint=f"Choose one of: {', '.join(BASE_MODELS)}.",
        )
    return BASE_MODELS[name]
