"""The configuration that SimpleTuner reads, built from what was chosen.

Sources: SimpleTuner 3.1.6 and 4.8.0, `simpletuner_sdk/server/services/field_registry/` (the options),
`helpers/models/flux/model.py` (target modules), `helpers/metadata/backends/base.py` (repeats).
"""

from typing import Any

from api.domain import samples
from api.domain.bucket import repeats_needed
from api.domain.engine import InstalledBase, TrainerInstall
from api.domain.training import FluxTrainingConfig
from api.errors import InputError
from api.processes import without_secrets
from api.trainer.workdir import Workdir

LARGEST_TRAINER_SEED = 2**31 - 1
DATASET_BACKEND = "images"
"""The trainer's id of the dataset, also in the names of its files."""

_AUTO_PRECISIONS = {"bf16": "no_change", "fp8": "fp8-quanto", "int8": "int8-quanto", "nf4": "nf4-bnb"}
_GPU_PRECISIONS = {"fp8-quanto", "nf4-bnb"}
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_FLUX_TARGETS = {"attention+context": "all", "attention+context+feed_forward": "all+ffs"}


def trainer_config(
    config: FluxTrainingConfig,
    *,
    base: InstalledBase,
    install: TrainerInstall,
    workdir: Workdir,
    auto_precision: str = "bf16",
) -> dict[str, Any]:
    """`config.json`. `auto_precision` (bf16, fp8, int8, nf4) is what `base_model_precision: auto` means on this GPU.

    Raises InputError `needs_gpu` for a choice that this machine's trainer cannot carry out.
    """
    precision = _base_model_precision(config, install.gpu, auto_precision)
    return {
        "model_type": "lora",
        "model_family": base.family,
        "model_flavour": "dev",  # the default, krea, is another model
        "pretrained_model_name_or_path": str(base.diffusers_dir),
        "pretrained_vae_model_name_or_path": str(base.diffusers_dir),
        "output_dir": str(workdir.output),
        "data_backend_config": str(workdir.backends),
        "webhook_config": str(workdir.webhook),
        "lora_type": "standard",
        "lora_rank": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        **_target_modules(config, install.version),
        "resolution": config.resolution,
        "resolution_type": "pixel_area",
        "train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_checkpointing": config.gradient_checkpointing,
        "max_train_steps": config.steps,
        "num_train_epochs": 0,  # one of the two must be 0
        "learning_rate": config.learning_rate,
        "lr_scheduler": config.lr_scheduler,
        # It takes these for half the period of its cosine, which has no warm-up and would rise again after them.
        "lr_warmup_steps": config.steps if config.lr_scheduler == "cosine" else config.lr_warmup_steps,
        "optimizer": _optimizer(config, install.gpu),
        "mixed_precision": config.mixed_precision,
        "base_model_precision": precision,
        "quantize_via": "cpu",  # the unquantised model would not fit a card that needs quantising
        "offload_during_startup": install.gpu and precision != "no_change",
        "caption_dropout_probability": config.caption_dropout,
        "vae_batch_size": 1,  # a larger one needs that many images in every bucket
        "checkpoint_step_interval": config.checkpoint_interval,
        "checkpoints_total_limit": config.checkpoints_kept,
        "checkpointing_use_tempdir": True,  # one that is killed while it saves leaves no half of a newest one
        "resume_from_checkpoint": "latest",  # starts fresh where there is none
        "seed": trainer_seed(config.seed),
        "disable_bucket_pruning": True,
        **_samples(config, workdir),
        "disable_benchmark": True,
        "report_to": "none",
        "push_to_hub": False,
        **config.expert,  # checked when it was asked for, so none of them is one of MASUKA's own
    }


def sample_prompts(config: FluxTrainingConfig) -> dict[str, str]:
    """`prompts.json`."""
    return {samples.label(position): prompt for position, prompt in enumerate(config.sample_prompts or ())}


def _samples(config: FluxTrainingConfig, workdir: Workdir) -> dict[str, Any]:
    """Drawn after each training checkpoint is saved.

    Where there is none before the end, they are drawn at the last step: in the training loop, where a failure is only
    logged. 4.8 draws nothing after the loop; 3.1.6 does where the interval does not end with the training.
    """
    if not config.sample_prompts:
        return {"validation_disable": True}
    side = samples.side(config.resolution)
    return {
        "validation_disable": False,
        "validation_disable_unconditional": True,  # no picture of nothing
        "user_prompt_library": str(workdir.prompts),
        "validation_step_interval": min(config.checkpoint_interval, config.steps),
        "validation_seed": trainer_seed(config.sample_seed),
        "validation_resolution": f"{side}x{side}",  # 3.1.6 fails on a single number
        **({} if config.sample_steps is None else {"validation_num_inference_steps": config.sample_steps}),
        "validation_guidance": samples.GUIDANCE,
        "validation_negative_prompt": "",
    }


def data_backends(config: FluxTrainingConfig, workdir: Workdir) -> list[dict[str, Any]]:
    """`multidatabackend.json`: the dataset, and the cache of its captions.

    Images keep their shape (aspect buckets, cut at the centre to a multiple of 64 pixels) and none is dropped for
    being small. A bucket with fewer images than one optimizer step takes makes the trainer refuse the whole dataset;
    with these repeats a bucket of a single image is enough.
    """
    return [
        {
            "id": DATASET_BACKEND,
            "type": "local",
            "dataset_type": "image",
            "instance_data_dir": str(workdir.dataset),
            "caption_strategy": "textfile",
            "metadata_backend": "discovery",
            "resolution": config.resolution,
            "resolution_type": "pixel_area",
            "crop": True,
            "crop_aspect": "preserve",
            "crop_style": "center",
            "cache_dir_vae": str(workdir.cache / "vae"),
            "repeats": repeats_needed([1], config.batch_size * config.gradient_accumulation_steps),
        },
        {
            "id": "captions",
            "type": "local",
            "dataset_type": "text_embeds",
            "default": True,
            "cache_dir": str(workdir.cache / "text"),
        },
    ]


def webhook_config() -> dict[str, Any]:
    """`webhook.json` without its `callback_url`, which the runner puts in.

    At `debug` the trainer would post every training image with every message.
    """
    return {"webhook_type": "raw", "log_level": "info"}


def environment(install: TrainerInstall, workdir: Workdir, *, job_id: str, inherited: dict[str, str]) -> dict[str, str]:
    """The trainer's whole environment: of `inherited` only what a process on this machine needs, so no secret of ours.

    Version 3 cannot resume when huggingface_hub is told to be offline, so there its network is a closed port.
    """
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    if major(install.version) >= 4:
        offline = {"HF_HUB_OFFLINE": "1", "SIMPLETUNER_ACCELERATE_SIGNAL_FILE": str(workdir.triggers)}
    return {
        **without_secrets(inherited),
        "PATH": f"{install.python.parent}:{inherited.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "CONFIG_BACKEND": "json",
        "CONFIG_PATH": str(workdir.config),
        "SIMPLETUNER_JOB_ID": job_id,
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "WANDB_MODE": "disabled",
        **offline,
        **install.env,
    }


def major(version: str) -> int:
    return int(version.split(".", 1)[0])


def trainer_seed(seed: int) -> int:
    """`seed` as SimpleTuner takes it: 32 bits, and never 0, which it replaces by the clock."""
    return seed % LARGEST_TRAINER_SEED or LARGEST_TRAINER_SEED


def _target_modules(config: FluxTrainingConfig, version: str) -> dict[str, Any]:
    if config.target_modules != "attention":
        return {"flux_lora_target": _FLUX_TARGETS[config.target_modules]}
    if major(version) >= 4:
        return {"peft_lora_target_modules": list(_ATTENTION)}
    # 3.1.6 has no name for just these four. It accepts this one, has no list for it, and falls back to its
    # DEFAULT_LORA_TARGET: to_k, to_q, to_v, to_out.0 (and to_qkv, which Flux only has when fused).
    return {"flux_lora_target": "all+ffs+embedder+controlnet"}


def _optimizer(config: FluxTrainingConfig, gpu: bool) -> str:
    match config.optimizer:
        case "auto":
            return "bnb-adamw8bit" if gpu else "adamw_bf16"
        case "adamw8bit":
            _require_gpu(gpu, "optimizer", "adamw8bit")
            return "bnb-adamw8bit"
        case "adamw_bf16":
            return "adamw_bf16"


def _base_model_precision(config: FluxTrainingConfig, gpu: bool, auto: str) -> str:
    asked = config.base_model_precision
    chosen = _AUTO_PRECISIONS[auto] if asked == "auto" else asked
    if chosen in _GPU_PRECISIONS:
        _require_gpu(gpu, "base_model_precision", chosen)
    return chosen


def _require_gpu(gpu: bool, field: str, value: str) -> None:
    if not gpu:
        raise InputError(
            f"{field} {value} needs a CUDA GPU, and the trainer on this machine has none.",
            code="needs_gpu",
            value=value,
            hint=f"Leave {field} out, or set it to `auto`.",
        )
