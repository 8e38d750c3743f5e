"""Every choice we offer, put through the real SimpleTuner's option parser."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api.trainer.option_list import FOLDER
from api.trainer.workdir import write_json
from tests.engines.simpletuner.trainer_lab import TrainerLab

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

PARSER = Path(__file__).with_name("parse_options.py")
LIST = "every option that there is"
EXPERT: dict[str, Any] = {
    "flow_schedule_shift": 2.5, "lr_num_cycles": 2, "loss_type": "huber", "disable_tf32": True, "keep_vae_loaded": False,
    "optimizer": "optimi-lion", "lr_scheduler": "cosine_with_restarts", "quantize_via": "accelerator",
}  # fmt: skip
CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "smallest": {"steps": 1, "rank": 1, "alpha": 0.1, "learning_rate": 1e-9, "batch_size": 1, "resolution": 64},
    "largest": {
        "steps": 100_000, "rank": 256, "alpha": 512.0, "learning_rate": 1.0, "batch_size": 64, "resolution": 2048,
        "gradient_accumulation_steps": 64, "seed": 2**53 - 1, "dropout": 0.99, "caption_dropout": 1.0,
        "checkpoint_interval": 100_000, "checkpoints_kept": 100, "lr_warmup_steps": 99_999,
    },
    **{f"schedule {name}": {"lr_scheduler": name} for name in ("constant", "linear", "cosine", "polynomial")},
    **{f"precision {name}": {"base_model_precision": name} for name in ("no_change", "int8-quanto", "int4-quanto")},
    **{f"targets {name}": {"target_modules": name} for name in ("attention+context", "attention+context+feed_forward")},
    "no checkpointing": {"gradient_checkpointing": False},
    "expert": {"expert": EXPERT},
}  # fmt: skip


@pytest.fixture(scope="module")
def parsed(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("options")
    configs = {}
    for name, choices in CHOICES.items():
        workdir = trainer_lab.prepare(folder / name, photos=0, **choices)
        write_json(workdir.webhook, {"webhook_type": "raw", "callback_url": "http://127.0.0.1:9/"})
        configs[name] = str(workdir.config)
    written = [str(folder / "parsed.json"), str(folder / "list.json")]
    command = [str(trainer_lab.install.python), str(PARSER), *written, *configs.values()]
    environment = {**os.environ, **trainer_lab.install.env}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=280)
    options = json.loads((folder / "parsed.json").read_text())
    return {name: options[path] for name, path in configs.items()} | {
        LIST: json.loads((folder / "list.json").read_text())
    }


@pytest.mark.parametrize("name", CHOICES)
def test_the_trainer_takes_every_choice(parsed: dict[str, dict[str, Any]], name: str) -> None:
    assert "error" not in parsed[name], parsed[name]["error"]


def test_the_trainer_understands_what_was_meant(parsed: dict[str, dict[str, Any]]) -> None:
    largest = parsed["largest"]

    assert largest["lora_rank"] == 256
    assert largest["lora_alpha"] == 512.0
    assert largest["max_train_steps"] == 100_000
    assert largest["learning_rate"] == 1.0
    assert largest["lr_warmup_steps"] == 99_999
    assert largest["resolution"] == 2048
    assert 0 < largest["seed"] < 2**31
    assert largest["gradient_checkpointing"] is True
    assert parsed["no checkpointing"]["gradient_checkpointing"] is False
    assert parsed["smallest"]["lora_alpha"] == 0.1
    assert parsed["defaults"]["caption_dropout_probability"] == 0.1
    assert parsed["defaults"]["lora_dropout"] == 0.0
    assert parsed["defaults"]["resume_from_checkpoint"] == "latest"


def test_a_cosine_falls_once_from_the_first_step_to_the_last(parsed: dict[str, dict[str, Any]]) -> None:
    assert parsed["schedule cosine"]["lr_warmup_steps"] == parsed["schedule cosine"]["max_train_steps"] == 20
    assert parsed["schedule linear"]["lr_warmup_steps"] == 2


def test_options_of_its_own_arrive_as_they_were_named(parsed: dict[str, dict[str, Any]]) -> None:
    assert EXPERT.items() <= parsed["expert"].items()


def test_the_list_of_its_options_is_the_one_that_requests_are_judged_by(
    parsed: dict[str, dict[str, Any]], trainer_lab: TrainerLab
) -> None:
    kept = json.loads((FOLDER / f"{trainer_lab.install.version}.json").read_text())

    assert json.loads(json.dumps(parsed[LIST])) == kept
