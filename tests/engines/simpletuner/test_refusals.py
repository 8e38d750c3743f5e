"""The real SimpleTuner before trainings that cannot work, and when something happens to one that could.

3.1.6 exits 0 for most of them. docs/training.md tells what MASUKA makes of each.
"""

import pytest

from api.trainer.diagnosis import Failure
from api.trainer.outcome import OutcomeStatus, read_exit
from tests.engines.simpletuner.trainer_lab import Run

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]


def failure(run: Run) -> Failure:
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.FAILED
    assert run.outcome.failure is not None
    return run.outcome.failure


@pytest.mark.parametrize(
    ("case", "code", "told"),
    [
        ("no images", "dataset_refused", "images"),
        ("no folder", "dataset_refused", "dataset"),
        ("small images", "dataset_refused", "usable samples"),
        ("no model", "model_missing", "no-model"),
        ("bad option", "bad_option", "no_such_option"),
        ("bad optimizer", "bad_option", "AdamW8Bit"),
    ],
)
def test_a_training_that_cannot_work_is_refused_with_the_reason(
    refused: dict[str, Run], case: str, code: str, told: str
) -> None:
    found = failure(refused[case])

    assert found.code == code
    assert told in found.message
    assert found.hint


def test_an_option_that_the_trainer_does_not_know_is_the_one_thing_3_1_6_has_an_exit_code_for(
    refused: dict[str, Run],
) -> None:
    end = read_exit(refused["bad option"].workdir)

    assert end is not None
    assert end.returncode == 2


@pytest.mark.parametrize(
    ("case", "code", "told"),
    [
        ("GPU memory full", "out_of_memory", "CUDA out of memory"),
        ("disk full", "disk_full", "inline_container"),
        ("disk full while caching", "disk_full", ""),
        ("LoRA lost", "lora_not_written", "wrote no LoRA"),
        ("interrupted while caching", "trainer_interrupted", "interrupted"),
        ("interrupted while training", "trainer_interrupted", "interrupted"),
    ],
)
def test_what_happened_to_a_training_is_told(broken_off: dict[str, Run], case: str, code: str, told: str) -> None:
    found = failure(broken_off[case])

    assert found.code == code
    assert told in found.message
    assert found.hint


def test_where_they_were_broken_off(broken_off: dict[str, Run]) -> None:
    reached = {case: run.states[-1].step for case, run in broken_off.items()}

    assert reached["interrupted while caching"] == 0
    assert reached["GPU memory full"] == 2
    assert reached["disk full"] == 4
    assert reached["interrupted while training"] >= 1
    assert broken_off["LoRA lost"].states[-1].completed
