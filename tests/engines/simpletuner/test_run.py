"""The real SimpleTuner on flux-tiny: a run from its start to its LoRA, whoever started it."""

import json
import os
from pathlib import Path

import pytest

from api.disk import folder_bytes
from api.domain.disk import CHECKPOINT_EXTRA_BYTES, STATE_BYTES, WEIGHT_BYTES, lora_parameters, training_bytes
from api.domain.engine import InstalledBase
from api.domain.lora_file import match_modules, require_match
from api.domain.training import FluxTrainingRequest
from api.engines import locate
from api.trainer.lora import check_lora, single_file_targets
from api.trainer.messages import Ignored, Step
from api.trainer.outcome import OutcomeStatus, read_exit
from api.trainer.process import recall
from api.trainer.state import TrainingStage
from api.trainer.workdir import FINAL_LORA
from tests.engines.simpletuner.conftest import Interrupted
from tests.engines.simpletuner.trainer_lab import DEFAULTS, Run

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]


def test_a_training_outlives_its_starter_and_succeeds(trained: Run) -> None:
    assert trained.outcome is not None
    assert trained.outcome.status is OutcomeStatus.SUCCEEDED
    assert trained.outcome.lora is not None
    assert trained.outcome.lora.path == trained.workdir.final_lora
    handle = recall(trained.workdir)
    assert handle is not None
    assert handle.gone()


def test_no_message_of_the_trainer_is_lost_or_unknown(trained: Run) -> None:
    end = read_exit(trained.workdir)

    assert end is not None
    assert [event.seq for event in trained.events] == list(range(1, end.events + 1))
    assert [event.message for event in trained.events if isinstance(event.message, Ignored)] == []


def test_every_step_is_told_with_its_loss_and_the_time_left(trained: Run) -> None:
    steps = [event.message for event in trained.events if isinstance(event.message, Step)]

    assert sorted({step.step for step in steps if step.loss is not None}) == list(range(1, 21))
    assert {step.total for step in steps} == {20}
    last = trained.states[-1]
    assert (last.step, last.total_steps, last.completed, last.eta_seconds) == (20, 20, True, 0.0)
    assert last.learning_rate == pytest.approx(5e-3)
    assert any(state.eta_seconds for state in trained.states if 2 < state.step < 19)


def test_the_stages_come_in_their_order(trained: Run) -> None:
    seen = list(dict.fromkeys(state.stage for state in trained.states))

    assert seen == [
        TrainingStage.STARTING,
        TrainingStage.READING_DATASET,
        TrainingStage.ENCODING_CAPTIONS,
        TrainingStage.ENCODING_IMAGES,
        TrainingStage.LOADING_MODEL,
        TrainingStage.TRAINING,
        TrainingStage.SAVING_CHECKPOINT,
        TrainingStage.SAVING_MODEL,
        TrainingStage.DONE,
    ]


def test_single_photos_of_their_own_shape_are_trained_on_in_batches_of_two(trained: Run) -> None:
    state = json.loads((trained.workdir.checkpoint(20) / "training_state-images.json").read_text())

    assert "Removing bucket" not in trained.workdir.stdout.read_text()
    buckets = {shape: len(photos) for shape, photos in state["aspect_ratio_bucket_indices"].items()}
    assert buckets == {"1.0": 3, "0.5": 1, "2.0": 1}


def test_exactly_the_four_attention_layers_are_trained(trained: Run, flux_tiny: InstalledBase) -> None:
    lora = check_lora(trained.workdir.final_lora)

    assert {module.name.partition(".attn.")[2] for module in lora.modules} == {"to_q", "to_k", "to_v", "to_out.0"}
    assert {module.rank for module in lora.modules} == {4}
    targets = locate.base_lora_targets(flux_tiny)
    attention = {name for name in targets if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))}
    assert {module.name.removeprefix("transformer.") for module in lora.modules} == attention


def test_the_lora_fits_its_base_model_and_no_other(trained: Run, flux_tiny: InstalledBase) -> None:
    modules = check_lora(trained.workdir.final_lora).modules

    require_match(modules, locate.base_lora_targets(flux_tiny), base_model="flux-tiny")
    single_file = single_file_targets(flux_tiny.models_dir / "diffusion_models" / flux_tiny.unet_name)
    assert len(single_file) > 10
    assert match_modules(modules, single_file).matched == 0


def test_training_checkpoints_are_loras_too(trained: Run) -> None:
    assert [Path(folder).name for folder in trained.states[-1].checkpoints] == ["checkpoint-10", "checkpoint-20"]
    assert check_lora(trained.workdir.checkpoint(10) / FINAL_LORA).rank == 4


def test_a_training_takes_no_more_disk_than_was_reserved_for_it(trained: Run, flux_tiny: InstalledBase) -> None:
    workdir, layers = trained.workdir, locate.base_lora_targets(flux_tiny)
    config = FluxTrainingRequest(checkpoint_interval=10).resolve(DEFAULTS)
    images = [path.stat().st_size for path in workdir.dataset.glob("*.png")]

    checkpoint = lora_parameters(config, layers) * (WEIGHT_BYTES + STATE_BYTES) + CHECKPOINT_EXTRA_BYTES
    assert 0.05 * checkpoint < folder_bytes(workdir.checkpoint(10)) < checkpoint
    assert folder_bytes(workdir.root) < training_bytes(config, layers, images, stored_here=False)


def test_a_killed_trainer_is_diagnosed(interrupted: Interrupted) -> None:
    result = interrupted.killed.outcome

    assert result is not None
    assert result.status is OutcomeStatus.FAILED
    assert result.failure is not None
    assert result.failure.code == "killed"


def test_the_next_run_resumes_from_the_newest_checkpoint(interrupted: Interrupted) -> None:
    saved = max(int(folder.rpartition("-")[2]) for folder in interrupted.killed.states[-1].checkpoints)
    resumed = interrupted.stopped.states[-1]

    assert resumed.resumed_at == saved >= 3
    assert min(e.message.step for e in interrupted.stopped.events if isinstance(e.message, Step)) == saved


def test_stopping_ends_every_process_of_a_running_training_in_time(interrupted: Interrupted) -> None:
    result = interrupted.stopped.outcome

    assert result is not None
    assert result.status is OutcomeStatus.CANCELLED
    assert interrupted.stopped.states[-1].interrupted
    assert interrupted.handle.gone()
    assert interrupted.seconds_to_stop < 30


def test_the_service_keeps_no_child_of_a_training(trained: Run) -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
