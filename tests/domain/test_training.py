"""What may be chosen about a training, and what fills the rest."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.domain.training import FluxDefaults, FluxTrainingConfig, FluxTrainingRequest
from api.errors import InputError
from api.settings import Settings

DEFAULTS = FluxDefaults(learning_rate=1e-4, steps=2000, rank=32, alpha=16, resolution=1024)


def request(**fields: Any) -> FluxTrainingRequest:
    return FluxTrainingRequest.model_validate(fields)


def test_an_empty_request_trains_with_the_installations_defaults() -> None:
    config = request().resolve(DEFAULTS)

    assert config == FluxTrainingConfig(
        learning_rate=1e-4,
        steps=2000,
        rank=32,
        alpha=16,
        resolution=1024,
        lr_warmup_steps=100,
        lr_scheduler="constant_with_warmup",
        optimizer="auto",
        mixed_precision="bf16",
        gradient_checkpointing=True,
        dropout=0.0,
        target_modules="attention",
        batch_size=1,
        checkpoint_interval=250,
    )


def test_what_a_request_says_wins_over_the_defaults() -> None:
    config = request(steps=500, rank=8, alpha=4.5, seed=0, trigger_word=" tkn ").resolve(DEFAULTS)

    assert (config.steps, config.rank, config.alpha, config.seed, config.trigger_word) == (500, 8, 4.5, 0, "tkn")


def test_kohyas_names_for_rank_and_alpha_are_understood() -> None:
    config = request(network_dim=8, network_alpha=4).resolve(DEFAULTS)

    assert (config.rank, config.alpha) == (8, 4)


def test_a_short_training_warms_up_for_a_tenth_of_its_steps() -> None:
    assert request(steps=20).resolve(DEFAULTS).lr_warmup_steps == 2
    assert request(steps=1).resolve(DEFAULTS).lr_warmup_steps == 0


def test_a_warm_up_that_never_ends_is_refused() -> None:
    with pytest.raises(InputError, match=r"lr_warmup_steps must be below steps \(50\), got 50") as caught:
        request(steps=50, lr_warmup_steps=50).resolve(DEFAULTS)

    assert (caught.value.code, caught.value.value) == ("warmup_too_long", 50)


def test_resolve_ignores_fields_that_a_route_adds_to_the_request() -> None:
    class Posted(FluxTrainingRequest):
        dataset_id: str

    assert Posted(dataset_id="d").resolve(DEFAULTS) == request().resolve(DEFAULTS)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "greater than or equal to 1"),
        ("steps", 100_001, "less than or equal to 100000"),
        ("steps", "20", "valid integer"),
        ("steps", True, "valid integer"),
        ("rank", 512, "less than or equal to 256"),
        ("alpha", 0, "greater than or equal to 0.1"),
        ("learning_rate", float("nan"), "finite number"),
        ("learning_rate", float("inf"), "finite number"),
        ("learning_rate", 0, "greater than 0"),
        ("resolution", 1000, "multiple of 64"),
        ("resolution", 4096, "less than or equal to 2048"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**53, "less than or equal to"),
        ("dropout", 1.0, "less than 1"),
        ("optimizer", "adam", "'auto', 'adamw8bit' or 'adamw_bf16'"),
        ("trigger_word", "a\x00b", "without control characters"),
        ("trigger_word", "a\nb", "without control characters"),
        ("trigger_word", "x" * 101, "at most 100 characters"),
        ("checkpoint_interval", 0, "greater than or equal to 1"),
        ("no_such_field", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_refused_value_is_named_with_its_field_and_its_range(field: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        request(**{field: value})

    (error,) = caught.value.errors()
    assert error["loc"][0] == field
    assert error["input"] == value or value != value


def test_rank_under_both_names_is_refused() -> None:
    with pytest.raises(ValidationError, match="network_dim"):
        request(rank=8, network_dim=16)


@pytest.mark.parametrize("extreme", [(1e-9, 1, 1, 0.1, 64), (1.0, 100_000, 256, 512.0, 2048)])
def test_every_default_that_the_settings_accept_is_a_valid_training(
    settings: Settings, extreme: tuple[float, int, int, float, int]
) -> None:
    fields = dict(zip(("learning_rate", "steps", "rank", "alpha"), extreme, strict=False))
    loaded = Settings.model_validate(
        {**{f"default_flux_{name}": value for name, value in fields.items()}, "default_resolution": extreme[4]}
    )
    defaults = FluxDefaults(
        loaded.default_flux_learning_rate,
        loaded.default_flux_steps,
        loaded.default_flux_rank,
        loaded.default_flux_alpha,
        loaded.default_resolution,
    )
    config = request().resolve(defaults)
    assert (config.learning_rate, config.steps, config.rank, config.alpha, config.resolution) == extreme
