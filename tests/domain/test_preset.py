"""Presets are data: every one is a training that can be asked for, and says why."""

import pytest

from api.domain.preset import CARDS_GB, find, largest_card
from api.domain.training import FluxDefaults, FluxTrainingConfig, FluxTrainingRequest
from api.errors import InputError
from api.services.presets import presets

OTHER = FluxDefaults(learning_rate=0.5, steps=7, rank=1, alpha=1, resolution=64)


@pytest.mark.parametrize("name", [preset.name for preset in presets()])
def test_every_preset_is_a_whole_training_whatever_the_defaults_are(name: str) -> None:
    preset = find(presets(), name)
    asked = FluxTrainingRequest.model_validate(preset.settings)

    assert asked.resolve(OTHER) == FluxTrainingRequest().resolve(OTHER, preset.settings)
    assert {
        name for name, field in FluxTrainingConfig.model_fields.items() if field.is_required()
    } <= asked.model_fields_set
    assert all(field.why and field.changing for field in preset.fields.values())


def test_there_is_one_for_every_card_and_subject() -> None:
    found = {(preset.vram_gb, preset.subject) for preset in presets()}

    assert found == {(card, subject) for card in (12, 16, 24, 40, 80) for subject in ("person", "style", "product")}
    assert len(presets()) == 15


def test_a_person_on_24_gb_is_trained_as_ever() -> None:
    assert find(presets(), "24gb-person").settings == {
        "learning_rate": 1e-4,
        "steps": 2000,
        "rank": 32,
        "alpha": 16,
        "resolution": 1024,
        "lr_scheduler": "constant_with_warmup",
        "lr_warmup_steps": 100,
        "optimizer": "adamw8bit",
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
        "base_model_precision": "fp8-quanto",
        "dropout": 0.0,
        "caption_dropout": 0.1,
        "target_modules": "attention",
        "batch_size": 1,
        "gradient_accumulation_steps": 1,
        "checkpoint_interval": 250,
        "checkpoints_kept": 5,
    }


def test_what_a_request_says_wins_over_its_preset_and_that_over_the_defaults() -> None:
    preset = find(presets(), "12gb-style").settings
    config = FluxTrainingRequest(rank=4, steps=50).resolve(OTHER, preset)

    assert (config.rank, config.steps, config.alpha, config.base_model_precision) == (4, 50, 8, "nf4-bnb")
    assert config.lr_warmup_steps == 5  # of the preset's 100, which bow to so few steps


def test_a_preset_that_there_is_not_is_refused_with_the_nearest_that_there_is() -> None:
    with pytest.raises(InputError, match="did you mean 24gb-person") as caught:
        find(presets(), "24gb-persons")
    assert caught.value.code == "preset_unknown"


@pytest.mark.parametrize(
    ("says", "card"), [(None, None), (8.0, None), (11.6, 12), (15.7, 16), (23.6, 24), (39.4, 40), (79.6, 80), (141, 80)]
)
def test_a_card_gets_the_presets_that_make_the_most_of_it(says: float | None, card: int | None) -> None:
    assert largest_card(presets(), says) == card
    assert card is None or card in CARDS_GB
