"""The real SimpleTuner before trainings that cannot work; 3.1.6 exits 0 for most of them."""

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


@pytest.mark.parametrize("case", ["no images", "no folder"])
def test_a_dataset_without_images_is_refused_whatever_the_exit_code(refused: dict[str, Run], case: str) -> None:
    assert failure(refused[case]).code == "dataset_refused"


def test_a_missing_base_model_is_named(refused: dict[str, Run]) -> None:
    assert failure(refused["no model"]).code == "model_missing"


def test_an_option_that_the_trainer_does_not_know_is_named(refused: dict[str, Run]) -> None:
    found = failure(refused["bad option"])

    assert found.code == "bad_option"
    assert "no_such_option" in found.message
    end = read_exit(refused["bad option"].workdir)
    assert end is not None
    assert end.returncode == 2
