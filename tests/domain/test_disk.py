"""Sizes are upper bounds of what is written; a trainer stops below the floor and goes on above it."""

import pytest

from api.domain.disk import GB, MB, Act, act, lora_parameters, picture_bytes, shown_bytes, training_bytes
from api.domain.training import FluxDefaults, FluxTrainingConfig, FluxTrainingRequest

DEFAULTS = FluxDefaults(learning_rate=1e-4, steps=2000, rank=32, alpha=16, resolution=1024)
BLOCK = dict.fromkeys(("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_k_proj"), (3072, 3072))
SINGLE = {"attn.to_q": (3072, 3072), "attn.to_k": (3072, 3072), "attn.to_v": (3072, 3072), "proj_mlp": (12288, 3072)}
FLUX = (
    {f"transformer_blocks.{n}.{name}": shape for n in range(19) for name, shape in BLOCK.items()}
    | {f"single_transformer_blocks.{n}.{name}": shape for n in range(38) for name, shape in SINGLE.items()}
    | {"context_embedder": (3072, 4096), "proj_out": (64, 3072)}
)


def config(**choices: object) -> FluxTrainingConfig:
    return FluxTrainingRequest.model_validate(choices).resolve(DEFAULTS)


def needed(images: int = 20, stored_here: bool = True, **choices: object) -> int:
    return training_bytes(config(**choices), FLUX, [3 * MB] * images, stored_here=stored_here)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [("attention", 19 * 4 + 38 * 3), ("attention+context", 19 * 5 + 38 * 3)],
)
def test_a_lora_has_rank_times_in_and_out_for_each_trained_layer(targets: str, layers: int) -> None:
    assert lora_parameters(config(target_modules=targets), FLUX) == 32 * layers * 2 * 3072


def test_the_last_layer_of_the_model_is_not_one_of_a_block() -> None:
    everything = config(target_modules="attention+context+feed_forward")
    assert lora_parameters(everything, FLUX) == 32 * (19 * 5 + 38 * 3) * 2 * 3072 + 32 * 38 * (12288 + 3072)


def test_a_training_of_flux_needs_a_few_gigabytes() -> None:
    assert 7 * GB < needed() < 10 * GB
    assert 4 * GB < needed(stored_here=False) < 6 * GB


def test_what_makes_more_files_or_larger_ones_needs_more() -> None:
    usual = needed()
    assert needed(checkpoints_kept=6) > usual + 1 * GB
    assert needed(rank=64) > 1.8 * usual
    assert needed(images=21) > usual + 3 * MB + 4096 * 512 * 4
    assert needed(resolution=2048) > usual
    assert needed(steps=250) < 0.5 * usual  # one training checkpoint
    assert needed(steps=249) < needed(steps=250)  # none


def test_a_picture_needs_less_than_the_usual_floor_leaves() -> None:
    assert 64 * 64 * 3 < picture_bytes(64, 64) < 10 * MB
    assert 3 * 2048 * 2048 * 3 < picture_bytes(2048, 2048) < 100 * MB


@pytest.mark.parametrize(
    ("free", "stopped", "by_us", "done"),
    [
        (100, False, False, Act.LEAVE),
        (99, False, False, Act.FREEZE),
        (99, True, True, Act.LEAVE),
        (124, True, True, Act.LEAVE),
        (125, True, True, Act.THAW),
        (99, True, False, Act.LEAVE),
        (100, True, False, Act.THAW),
    ],
)
def test_a_trainer_is_frozen_below_the_floor_and_thawed_above_it(
    free: int, stopped: bool, by_us: bool, done: Act
) -> None:
    assert act(free=free, floor=100, stopped=stopped, by_us=by_us) is done


def test_without_a_floor_nothing_is_frozen_and_all_that_is_stopped_goes_on() -> None:
    assert act(free=0, floor=0, stopped=False, by_us=False) is Act.LEAVE
    assert act(free=0, floor=0, stopped=True, by_us=True) is Act.THAW


@pytest.mark.parametrize(("count", "text"), [(1, "1 MB"), (20 * MB, "20 MB"), (1_549_000_000, "1.5 GB")])
def test_sizes_are_shown_as_a_person_says_them(count: int, text: str) -> None:
    assert shown_bytes(count) == text
