"""Webhook bodies of both trainer versions, parsed."""

from typing import Any

import pytest

from api.trainer.messages import (
    CheckpointSaved,
    Completed,
    Failed,
    Ignored,
    Interrupted,
    Log,
    Stage,
    Step,
    ValidationImages,
    parse,
)
from tests.trainer.samples import FOLDER, messages


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.jsonl")))
def test_nothing_that_the_real_trainer_says_is_unknown(name: str) -> None:
    assert [m for m in messages(name) if isinstance(m, Ignored)] == []


def test_a_run_of_3_1_6_reports_every_step_with_its_loss_and_learning_rate() -> None:
    steps = [m for m in messages("3.1.6_success") if isinstance(m, Step) and m.loss is not None]

    assert sorted({m.step for m in steps}) == list(range(1, 13))
    assert {m.total for m in steps} == {12}
    assert steps[-1].loss == pytest.approx(1.5875, abs=1e-3)
    assert steps[-1].learning_rate == pytest.approx(1e-4)
    assert steps[-1].eta_seconds is None


def test_the_first_message_of_training_has_no_progress_but_names_the_total() -> None:
    first = next(m for m in messages("3.1.6_success") if isinstance(m, Step))

    assert (first.step, first.total, first.loss) == (0, 12, None)


def test_4_8_estimates_the_time_left_itself() -> None:
    etas = [m.eta_seconds for m in messages("4.8_validation") if isinstance(m, Step)]

    assert any(eta is not None and eta >= 0 for eta in etas)


def test_a_resumed_run_names_the_step_it_began_with() -> None:
    assert {m.resumed_at for m in messages("3.1.6_resume") if isinstance(m, Step)} == {0, 5}
    assert {m.resumed_at for m in messages("4.8_resume") if isinstance(m, Step)} == {0, 7}


@pytest.mark.parametrize("version", ["3.1.6", "4.8"])
def test_checkpoints_stages_and_pictures_are_recognised(version: str) -> None:
    heard = messages(f"{version}_validation")

    assert [m.path.rsplit("/", 1)[1] for m in heard if isinstance(m, CheckpointSaved)] == [
        "checkpoint-5",
        "checkpoint-10",
    ]
    assert sum(m.count for m in heard if isinstance(m, ValidationImages)) == 4
    assert sum(isinstance(m, Completed) for m in heard) == 1
    assert Stage("init_vae_cache", "VAE Cache initialising", "running", 0, 6) in heard


@pytest.mark.parametrize("version", ["3.1.6", "4.8"])
def test_an_interrupt_is_recognised(version: str) -> None:
    assert messages(f"{version}_interrupted").count(Interrupted()) == 1


def test_a_failure_of_3_1_6_carries_its_text() -> None:
    assert Failed("[Errno 2] No such file or directory: '/data/nope'") in messages("3.1.6_dataset_missing")


def test_a_failure_of_4_8_is_told_twice() -> None:
    failures = [m for m in messages("4.8_dataset_missing") if isinstance(m, Failed)]

    assert failures[0].error.startswith("The following dataset directories do not exist")
    assert failures[1] == Failed("")


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (None, Ignored("NoneType")),
        ([1], Ignored("list")),
        ({}, Ignored("")),
        ({"type": "gpu.fault", "message": "hot"}, Ignored("gpu.fault")),
        ({"type": "training.status"}, Ignored("training.status")),
        ({"type": "training.status", "progress": {"current": True, "total": 5}}, Ignored("training.status")),
        ({"type": "training.checkpoint", "checkpoint": "x"}, CheckpointSaved("")),
        ({"type": "training.validation", "images": 3}, ValidationImages(3)),
        ({"type": "training.validation"}, ValidationImages(0)),
        ({"type": "error", "title": "Training failed: X"}, Failed("Training failed: X")),
        ({"type": "log.message", "message": 5}, Log("info", "")),
        ({"type": "lifecycle.stage", "stage": None}, Stage("", None, "", None, None)),
    ],
)
def test_a_message_of_another_shape_is_never_an_error(body: object, meaning: Any) -> None:
    assert parse(body) == meaning


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), "1.5", None, True])
def test_a_loss_that_is_no_finite_number_is_no_loss(loss: object) -> None:
    body = {"type": "training.status", "progress": {"current": 1, "total": 2, "metrics": {"loss": loss}}}

    assert parse(body) == Step(1, 2, None, None, None, None, 0)
