"""What may be asked of a picture."""

from typing import Any
from uuid import UUID

import pytest

from api.domain.generation import MAX_LORAS, MAX_SEED, GenerateImageRequest, affinity
from api.errors import InputError

FIRST, SECOND = UUID(int=1), UUID(int=2)


def _request(**fields: Any) -> GenerateImageRequest:
    return GenerateImageRequest.model_validate({"prompt": "x", **fields})


def test_the_defaults_are_the_contracts() -> None:
    assert _request().model_dump() == {
        "model_id": None,
        "checkpoint_id": None,
        "prompt": "x",
        "negative_prompt": "",
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "true_cfg_scale": 1.0,
        "width": 1024,
        "height": 1024,
        "seed": None,
        "lora_scale": 1.0,
        "num_images": 1,
        "base_model": None,
        "loras": [],
        "add_trigger_words": True,
        "workflow": None,
        "webhook_url": None,
    }


def test_the_model_comes_before_the_loras_with_its_own_scale() -> None:
    choices = _request(
        model_id=str(FIRST), lora_scale=0.5, loras=[{"model_id": str(SECOND), "scale": -1}]
    ).lora_choices()
    assert [(choice.model_id, choice.scale) for choice in choices] == [(FIRST, 0.5), (SECOND, -1.0)]
    assert _request(lora_scale=0.5).lora_choices() == []


def test_a_training_checkpoint_is_stacked_as_a_model_is() -> None:
    choices = _request(checkpoint_id=str(FIRST), lora_scale=0.5, loras=[{"checkpoint_id": str(SECOND)}]).lora_choices()
    assert [(choice.checkpoint_id, choice.scale) for choice in choices] == [(FIRST, 0.5), (SECOND, 1.0)]
    with pytest.raises(InputError, match="named twice"):
        _request(checkpoint_id=str(FIRST), loras=[{"checkpoint_id": str(FIRST)}]).lora_choices()


def test_a_full_stack_is_taken_and_one_more_is_not() -> None:
    stack = [{"model_id": str(UUID(int=n))} for n in range(10, 10 + MAX_LORAS)]
    assert len(_request(loras=stack).lora_choices()) == MAX_LORAS
    with pytest.raises(InputError) as caught:
        _request(model_id=str(FIRST), loras=stack).lora_choices()
    assert (caught.value.code, caught.value.value) == ("too_many_loras", MAX_LORAS + 1)


def test_the_same_lora_twice_is_refused_wherever_it_is_named() -> None:
    with pytest.raises(InputError) as caught:
        _request(model_id=str(FIRST), loras=[{"model_id": str(FIRST)}]).lora_choices()
    assert caught.value.code == "lora_repeated"


def test_seeds_count_up_from_the_first_and_stay_exact_in_a_browser() -> None:
    assert _request(seed=5, num_images=3).seeds(99) == [5, 6, 7]
    assert _request(seed=0).seeds(99) == [0]
    assert _request(num_images=2).seeds(99) == [99, 100]
    assert _request(seed=MAX_SEED).seeds(0) == [MAX_SEED]
    with pytest.raises(InputError) as caught:
        _request(seed=MAX_SEED, num_images=2).seeds(0)
    assert caught.value.code == "seed_out_of_range"


@pytest.mark.parametrize(("width", "height", "wrong"), [(528, 512, "width"), (512, 528, "height")])
def test_the_installations_own_limit_names_the_side(width: int, height: int, wrong: str) -> None:
    _request(width=512, height=512).check_size(512)
    with pytest.raises(InputError, match=f"^{wrong} must be at most 512, got 528"):
        _request(width=width, height=height).check_size(512)


def test_a_negative_prompt_needs_true_guidance() -> None:
    assert _request(negative_prompt="blur").warnings() != []
    assert _request(negative_prompt="blur", true_cfg_scale=1.5).warnings() == []
    assert _request(true_cfg_scale=1.5).warnings() == []


def test_pictures_with_the_same_models_go_together() -> None:
    lora = {"file": "a.safetensors", "scale": 1.0, "model_id": "1"}
    assert affinity("flux-dev", [lora]) == affinity("flux-dev", [{**lora, "model_id": "2"}])
    different = [
        ("flux-dev", []),
        ("flux-tiny", [lora]),
        ("flux-dev", [{**lora, "scale": 0.5}]),
        ("flux-dev", [lora] * 2),
    ]
    assert affinity("flux-dev", [lora]) not in [affinity(base, loras) for base, loras in different]
