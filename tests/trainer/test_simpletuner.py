"""The trainer's configuration, built from what was chosen. `tests/engines` puts it before the real trainer."""

from pathlib import Path
from typing import Any

import pytest

from api.domain.engine import InstalledBase, TrainerInstall
from api.domain.training import FluxDefaults, FluxTrainingConfig, FluxTrainingRequest
from api.errors import InputError
from api.trainer.simpletuner import data_backends, environment, trainer_config, trainer_seed, webhook_config
from api.trainer.workdir import Workdir

WORKDIR = Workdir(Path("/data/training/one"))
BASE = InstalledBase(
    name="flux-dev",
    family="flux",
    diffusers_dir=Path("/engines/flux-dev/diffusers"),
    models_dir=Path("/engines/flux-dev"),
    unet_name="flux.safetensors",
    clip_l_name="clip_l.safetensors",
    t5xxl_name="t5xxl.safetensors",
    vae_name="ae.safetensors",
)


def install(version: str = "3.1.6", *, gpu: bool = False) -> TrainerInstall:
    return TrainerInstall(Path("/venv/bin/python"), Path("/venv/train.py"), version, gpu, env={"EXTRA": "1"})


def chosen(**fields: Any) -> FluxTrainingConfig:
    defaults = FluxDefaults(learning_rate=1e-4, steps=2000, rank=32, alpha=16, resolution=1024)
    return FluxTrainingRequest.model_validate(fields).resolve(defaults)


def build(version: str = "3.1.6", *, gpu: bool = False, auto_precision: str = "bf16", **fields: Any) -> dict[str, Any]:
    made_for = install(version, gpu=gpu)
    return trainer_config(chosen(**fields), base=BASE, install=made_for, workdir=WORKDIR, auto_precision=auto_precision)


def test_the_defaults_become_the_trainers_options() -> None:
    config = build()

    assert (
        config.items()
        >= {
            "model_family": "flux",
            "model_flavour": "dev",
            "pretrained_model_name_or_path": "/engines/flux-dev/diffusers",
            "output_dir": "/data/training/one/output",
            "lora_rank": 32,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "learning_rate": 1e-4,
            "lr_scheduler": "constant_with_warmup",
            "lr_warmup_steps": 100,
            "max_train_steps": 2000,
            "num_train_epochs": 0,
            "train_batch_size": 1,
            "mixed_precision": "bf16",
            "gradient_checkpointing": True,
            "checkpoint_step_interval": 250,
            "resume_from_checkpoint": "latest",
            "resolution": 1024,
        }.items()
    )


def test_eight_bit_adamw_is_used_where_there_is_cuda() -> None:
    assert build(gpu=True)["optimizer"] == "bnb-adamw8bit"
    assert build(gpu=True, optimizer="adamw_bf16")["optimizer"] == "adamw_bf16"
    assert build(gpu=True, optimizer="adamw8bit")["optimizer"] == "bnb-adamw8bit"
    assert build(gpu=False)["optimizer"] == "adamw_bf16"


@pytest.mark.parametrize(
    ("auto", "precision"),
    [("bf16", "no_change"), ("fp8", "fp8-quanto"), ("int8", "int8-quanto"), ("nf4", "nf4-bnb")],
)
def test_the_base_model_is_quantised_as_far_as_it_must_to_fit(auto: str, precision: str) -> None:
    config = build(gpu=True, auto_precision=auto)

    assert config["base_model_precision"] == precision
    assert config["offload_during_startup"] is (precision != "no_change")


def test_a_chosen_precision_is_kept() -> None:
    assert build(gpu=True, auto_precision="fp8", base_model_precision="nf4-bnb")["base_model_precision"] == "nf4-bnb"
    assert build(base_model_precision="int8-quanto")["base_model_precision"] == "int8-quanto"


@pytest.mark.parametrize(
    ("field", "value"),
    [("optimizer", "adamw8bit"), ("base_model_precision", "fp8-quanto"), ("base_model_precision", "nf4-bnb")],
)
def test_what_only_a_gpu_can_do_is_refused_without_one(field: str, value: str) -> None:
    fields: dict[str, Any] = {field: value}

    with pytest.raises(InputError, match=f"{field} {value} needs a CUDA GPU") as caught:
        build(**fields)

    assert (caught.value.code, caught.value.value) == ("needs_gpu", value)


def test_the_four_attention_layers_are_named_as_each_version_can() -> None:
    assert build("4.8.0")["peft_lora_target_modules"] == ["to_q", "to_k", "to_v", "to_out.0"]
    assert "flux_lora_target" not in build("4.8.0")
    assert build("3.1.6")["flux_lora_target"] == "all+ffs+embedder+controlnet"
    assert build("3.1.6", target_modules="attention+context")["flux_lora_target"] == "all"
    assert build("4.8.0", target_modules="attention+context+feed_forward")["flux_lora_target"] == "all+ffs"


def test_a_bucket_of_one_image_is_enough_for_one_step() -> None:
    images, captions = data_backends(chosen(batch_size=4, gradient_accumulation_steps=2), WORKDIR)

    assert 1 * (images["repeats"] + 1) == 4 * 2
    assert data_backends(chosen(), WORKDIR)[0]["repeats"] == 0
    assert images["instance_data_dir"] == "/data/training/one/dataset"
    assert images["caption_strategy"] == "textfile"
    assert captions["default"] is True


def test_the_dataset_is_never_thinned_out() -> None:
    images, _ = data_backends(chosen(), WORKDIR)

    assert "minimum_image_size" not in images
    assert build()["disable_bucket_pruning"] is True


def test_the_webhook_stays_below_debug_where_images_are_posted() -> None:
    assert webhook_config() == {"webhook_type": "raw", "log_level": "info"}


@pytest.mark.parametrize(
    ("seed", "trainers"),
    [(0, 2**31 - 1), (1, 1), (42, 42), (2**31 - 1, 2**31 - 1), (2**53 - 1, (2**53 - 1) % (2**31 - 1))],
)
def test_a_seed_is_never_one_that_the_trainer_replaces_by_the_clock(seed: int, trainers: int) -> None:
    assert trainer_seed(seed) == trainers
    assert 0 < trainer_seed(seed) < 2**31


def test_secrets_of_the_service_do_not_reach_the_trainer() -> None:
    inherited = {"AWS_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "t", "DATABASE_URL": "d", "HOME": "/h", "CUDA_HOME": "/c"}

    env = environment(install(), WORKDIR, job_id="j", inherited=inherited)

    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "DATABASE_URL"} & env.keys()
    assert env.items() >= {"HOME": "/h", "CUDA_HOME": "/c", "SIMPLETUNER_JOB_ID": "j", "EXTRA": "1"}.items()
    assert env["PATH"].startswith("/venv/bin:")
    assert env["CONFIG_PATH"] == "/data/training/one/config/config.json"


def test_version_3_is_cut_off_without_being_told_that_it_is_offline() -> None:
    env = environment(install("3.1.6"), WORKDIR, job_id="j", inherited={"HF_HUB_OFFLINE": "1", "PATH": "/bin"})

    assert not {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} & env.keys()
    assert env["HF_ENDPOINT"] == "http://127.0.0.1:9"
    assert env["PATH"] == "/venv/bin:/bin"


def test_version_4_is_offline_and_can_be_asked_for_a_checkpoint() -> None:
    env = environment(install("4.8.0"), WORKDIR, job_id="j", inherited={})

    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["SIMPLETUNER_ACCELERATE_SIGNAL_FILE"] == "/data/training/one/config/triggers.json"
