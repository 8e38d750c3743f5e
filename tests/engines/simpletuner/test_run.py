"""The real SimpleTuner on flux-tiny: a run from its start to its LoRA, whoever started it."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from api.disk import folder_bytes
from api.domain.disk import CHECKPOINT_EXTRA_BYTES, STATE_BYTES, WEIGHT_BYTES, lora_parameters, training_bytes
from api.domain.engine import InstalledBase
from api.domain.lora_file import match_modules, require_match
from api.domain.tensor_file import read_header
from api.domain.training import FluxTrainingRequest
from api.engines import locate
from api.trainer.lora import check_lora, single_file_targets, write_with_alpha
from api.trainer.messages import Ignored, Step
from api.trainer.outcome import OutcomeStatus, read_exit
from api.trainer.process import recall
from api.trainer.simpletuner import major
from api.trainer.state import TrainingStage
from api.trainer.workdir import FINAL_LORA
from tests.engines.simpletuner.conftest import Interrupted
from tests.engines.simpletuner.trainer_lab import DEFAULTS, Run, TrainerLab

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

ALPHA_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


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


def test_a_trainer_killed_while_it_saves_a_checkpoint_is_diagnosed(interrupted: Interrupted) -> None:
    result = interrupted.killed.outcome

    assert result is not None
    assert result.status is OutcomeStatus.FAILED
    assert result.failure is not None
    assert result.failure.code == "killed"
    assert result.state.stage is TrainingStage.SAVING_CHECKPOINT
    assert (result.state.step, interrupted.whole) == (10, 5)


def test_each_run_resumes_from_the_newest_whole_checkpoint(interrupted: Interrupted) -> None:
    for run, step in (interrupted.stopped, interrupted.whole), (interrupted.terminated, interrupted.stop.resumes_from):
        assert run.states[-1].resumed_at == step
        assert min(event.message.step for event in run.events if isinstance(event.message, Step)) == step


def test_a_stop_loses_no_step_where_the_trainer_can_save_when_it_is_asked(
    interrupted: Interrupted, trainer_lab: TrainerLab
) -> None:
    stop = interrupted.stop

    if major(trainer_lab.install.version) >= 4:
        assert 5 < stop.resumes_from < 10
        assert stop.lost <= 1  # it may have done one more step before it ends
    else:
        assert stop.resumes_from == stop.step // 5 * 5


def test_a_trainer_terminated_by_somebody_else_was_interrupted(interrupted: Interrupted) -> None:
    result, end = interrupted.terminated.outcome, read_exit(interrupted.terminated.workdir)

    assert end is not None
    assert end.signal == signal.SIGTERM
    assert result is not None
    assert result.failure is not None
    assert result.failure.code == "trainer_interrupted"


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


def test_a_training_that_has_all_its_steps_saves_its_lora_again(again: Run) -> None:
    assert again.outcome is not None
    assert again.outcome.status is OutcomeStatus.SUCCEEDED
    assert again.states[-1].resumed_at == again.states[-1].step == 20
    assert again.states[-1].checkpoints == ()


def test_alpha_is_right_whatever_the_trainer_wrote(again: Run, trainer_lab: TrainerLab, tmp_path: Path) -> None:
    written = write_with_alpha(again.workdir.final_lora, tmp_path / "lora.safetensors", 2, {})

    # 4.8 writes the rank where alpha should be, into its last file only; 3.1.6 writes none.
    assert alphas(again.workdir.final_lora) == ({4.0} if major(trainer_lab.install.version) >= 4 else set())
    assert alphas(written.path) == {2.0}


def alphas(path: Path) -> set[float]:
    """The values of its alpha tensors."""
    with path.open("rb") as file:
        header, start = read_header(file)
        found = set()
        for name, tensor in header.tensors.items():
            if name.endswith(".alpha"):
                file.seek(start + tensor.start)
                raw = np.frombuffer(file.read(tensor.end - tensor.start), dtype=ALPHA_TYPES[tensor.dtype])
                found.add(float((raw.astype("<u4") << 16).view("<f4")[0] if tensor.dtype == "BF16" else raw[0]))
    return found
