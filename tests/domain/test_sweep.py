"""Every combination once, nothing twice, and in few groups."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from api.domain.sweep import ALONE, MAX_PICTURES, Lora, SweepRequest, grouped
from api.errors import InputError

A, B = UUID(int=1), UUID(int=2)


def sweep(**fields: Any) -> SweepRequest:
    return SweepRequest(**{"prompts": ["a cat"], **fields})


def test_every_lora_meets_every_scale_and_no_lora_meets_none() -> None:
    found = sweep(models=[A, None, B], scales=[0.5, 1.0]).variants()
    assert found == [(Lora(A), 0.5), (Lora(A), 1.0), (ALONE, None), (Lora(B), 0.5), (Lora(B), 1.0)]
    assert sweep(scales=[0.5, 1.0]).variants() == [(ALONE, None)]


def test_training_checkpoints_come_after_the_models() -> None:
    found = sweep(models=[None, A], checkpoints=[B]).variants()
    assert found == [(ALONE, None), (Lora(A), 1.0), (Lora(checkpoint_id=B), 1.0)]
    assert sweep(checkpoints=[B]).variants() == [(Lora(checkpoint_id=B), 1.0)]


def test_scales_without_a_lora_are_said_to_have_no_effect() -> None:
    assert sweep(models=[A], scales=[0.5]).warnings() == sweep().warnings() == []
    assert sweep(checkpoints=[A], scales=[0.5]).warnings() == []
    (warning,) = sweep(models=[None], scales=[0.5]).warnings()
    assert "scales" in warning


@pytest.mark.parametrize(
    "twice",
    [
        *({"prompts": ["a", "b", "a"]}, {"seeds": [1, 1]}, {"scales": [1, 1]}),
        *({"models": [None, None]}, {"models": [A, A]}, {"checkpoints": [A, A]}),
    ],
    ids=str,
)
def test_nothing_is_named_twice(twice: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="twice"):
        sweep(**twice)


@pytest.mark.parametrize("nothing", [{"prompts": []}, {"scales": []}], ids=str)
def test_an_axis_that_would_leave_no_picture_is_refused(nothing: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        sweep(**nothing)


def test_500_pictures_are_a_sweep_and_one_more_is_none() -> None:
    prompts = [f"cat {number}" for number in range(50)]
    sweep(prompts=prompts, seeds=list(range(10))).require_size()
    sweep(seeds=list(range(MAX_PICTURES))).require_size()
    with pytest.raises(InputError) as caught:
        sweep(prompts=prompts[:3], seeds=list(range(167))).require_size()
    assert (caught.value.code, caught.value.value) == ("sweep_too_large", 501)


def test_a_picture_of_it_has_what_was_said_and_nothing_else() -> None:
    request = sweep(prompts=["a", "b"], seeds=[3, 4], scales=[0.5, 1.0], width=64, loras=[{"model_id": B}])
    picture = request.picture(Lora(A), None)
    assert (picture.prompt, picture.seed, picture.model_id, picture.lora_scale) == ("a", 3, A, 0.5)
    assert (picture.width, picture.loras[0].model_id) == (64, B)
    assert not picture.model_fields_set & {"height", "guidance_scale", "num_inference_steps", "workflow"}


def test_items_of_one_group_come_together_and_stay_in_their_order() -> None:
    assert grouped(["a1", "b1", "a2", "c1", "b2"], lambda item: item[0]) == ["a1", "a2", "b1", "b2", "c1"]
