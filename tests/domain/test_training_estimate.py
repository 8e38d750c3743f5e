"""What a training is said to take."""

from api.domain.training import FluxDefaults, FluxTrainingConfig, FluxTrainingRequest
from api.domain.training_estimate import Done, megapixels, time_needed, vram_gb

DEFAULTS = FluxDefaults(learning_rate=1e-4, steps=2000, rank=32, alpha=16, resolution=1024)


def config(**choices: object) -> FluxTrainingConfig:
    return FluxTrainingRequest.model_validate(choices).resolve(DEFAULTS)


def test_memory_grows_with_what_is_on_the_gpu_at_once() -> None:
    assert vram_gb(config(resolution=512), 9) == 9
    assert vram_gb(config(), 9) == 12.0
    assert vram_gb(config(batch_size=2), 9) == 16.0
    assert vram_gb(config(gradient_accumulation_steps=4), 9) == 12.0


def test_time_is_that_of_trainings_here_by_what_they_saw() -> None:
    done = [Done(100, 1.0), Done(100, 10.0), Done(300, 10.0)]
    found = time_needed(config(resolution=512, steps=100), done, documented=True)
    assert found is not None
    assert (found.seconds, found.basis) == (round(30 * 0.262144 * 100), "measured")


def test_without_trainings_here_time_is_what_the_docs_say_if_they_do() -> None:
    found = time_needed(config(), [], documented=True)
    assert found is not None
    assert (found.seconds, found.basis) == (7340, "documented")
    assert time_needed(config(), [Done(5, 0)], documented=False) is None
    assert megapixels(config(batch_size=2, gradient_accumulation_steps=3, steps=10)) == 10 * 6 * 1.048576


def test_without_gradient_checkpointing_it_is_faster() -> None:
    found = time_needed(config(gradient_checkpointing=False), [], documented=True)
    assert found is not None
    assert found.seconds == round(7340.032 * 0.7)
