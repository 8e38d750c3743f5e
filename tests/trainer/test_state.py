"""How far a training is, folded from what real runs said."""

from dataclasses import replace

import pytest

from api.trainer.messages import CheckpointSaved, Failed, Ignored, Stage, Step
from api.trainer.state import TrainingStage, TrainingState, fold
from tests.trainer.samples import folded, messages


def step(number: int, *, eta: float | None = None, loss: float | None = 0.5) -> Step:
    return Step(number, 10, loss, 1e-4, 1, eta, 0)


@pytest.mark.parametrize("name", ["3.1.6_success", "3.1.6_validation", "4.8_validation"])
def test_a_good_run_ends_completed_at_its_last_step(name: str) -> None:
    state = folded(name)

    assert state.completed
    assert not state.failed
    assert state.stage is TrainingStage.DONE
    assert state.step == state.total_steps
    assert state.total_steps in {10, 12}
    assert state.loss is not None
    assert state.learning_rate == pytest.approx(1e-4)
    assert state.eta_seconds == 0
    assert len(state.checkpoints) == 2


def test_the_stages_of_a_run_come_in_their_order() -> None:
    state, seen = TrainingState(), [TrainingStage.STARTING]
    for message in messages("3.1.6_validation"):
        state = fold(state, message, 0)
        if state.stage is not seen[-1]:
            seen.append(state.stage)

    assert seen[:6] == [
        TrainingStage.STARTING,
        TrainingStage.READING_DATASET,
        TrainingStage.ENCODING_CAPTIONS,
        TrainingStage.ENCODING_IMAGES,
        TrainingStage.LOADING_MODEL,
        TrainingStage.TRAINING,
    ]
    assert seen[-3:] == [TrainingStage.MAKING_SAMPLES, TrainingStage.SAVING_MODEL, TrainingStage.DONE]
    assert {TrainingStage.SAVING_CHECKPOINT, TrainingStage.SAVING_MODEL} <= set(seen)


def test_a_stage_that_counts_says_how_far_it_is() -> None:
    state = fold(TrainingState(), Stage("init_cache_text_embeds_status_update", None, "running", 3, 6), 0)

    assert (state.stage, state.stage_current, state.stage_total) == (TrainingStage.ENCODING_CAPTIONS, 3, 6)


def test_after_a_checkpoint_is_saved_training_goes_on() -> None:
    saving = fold(TrainingState(), Stage("checkpoint_save", None, "running", None, None), 0)

    assert saving.stage is TrainingStage.SAVING_CHECKPOINT
    assert fold(saving, Stage("checkpoint_save", None, "completed", None, None), 1).stage is TrainingStage.TRAINING


@pytest.mark.parametrize("message", [Stage("some_new_stage", None, "running", 1, 2), Ignored("x")])
def test_what_is_unknown_changes_nothing(message: Stage | Ignored) -> None:
    state = fold(TrainingState(), step(3), 0)

    assert fold(state, message, 1) == state


def test_the_time_left_is_worked_out_from_the_pace_of_the_steps() -> None:
    state = fold(TrainingState(), step(0), 100.0)
    assert state.eta_seconds is None

    state = fold(fold(state, step(1), 102.0), step(2), 104.0)

    assert state.step_seconds == pytest.approx(2.0)
    assert state.eta_seconds == pytest.approx(16.0)


def test_a_step_told_twice_does_not_change_the_pace() -> None:
    state = fold(fold(TrainingState(), step(1), 100.0), step(2), 102.0)

    again = fold(state, step(2), 103.0)

    assert (again.step_seconds, again.stepped_at) == (state.step_seconds, 102.0)


def test_the_pace_of_a_resumed_run_does_not_count_the_steps_of_the_run_before() -> None:
    state = fold(TrainingState(), step(500), 100.0)

    assert state.step_seconds is None
    assert fold(state, step(501), 103.0).step_seconds == pytest.approx(3.0)


def test_the_trainers_own_estimate_wins() -> None:
    state = fold(fold(TrainingState(), step(1), 0.0), step(2, eta=77.0), 2.0)

    assert state.eta_seconds == 77.0


def test_a_step_without_a_loss_keeps_the_last_one() -> None:
    state = fold(fold(TrainingState(), step(1), 0), replace(step(2, loss=None), learning_rate=None, epoch=None), 1)

    assert (state.loss, state.learning_rate, state.epoch) == (0.5, 1e-4, 1)


def test_checkpoints_are_kept_in_order() -> None:
    state = fold(fold(TrainingState(), CheckpointSaved("a"), 0), CheckpointSaved("b"), 1)

    assert state.checkpoints == ("a", "b")


def test_the_first_text_of_a_failure_is_kept() -> None:
    state = fold(fold(TrainingState(), Failed("why"), 0), Failed(""), 1)

    assert (state.failed, state.error) == (True, "why")


@pytest.mark.parametrize("version", ["3.1.6", "4.8"])
def test_a_dataset_that_cannot_be_read_is_remembered(version: str) -> None:
    state = folded(f"{version}_dataset_missing")

    assert (state.failed, state.dataset_failed, state.completed) == (True, True, False)


def test_a_failure_elsewhere_is_not_the_datasets() -> None:
    assert not fold(TrainingState(), Stage("validation", None, "failed", None, None), 0).dataset_failed


@pytest.mark.parametrize("version", ["3.1.6", "4.8"])
def test_an_interrupted_run_is_neither_completed_nor_failed(version: str) -> None:
    state = folded(f"{version}_interrupted")

    assert (state.interrupted, state.completed, state.failed) == (True, False, False)
