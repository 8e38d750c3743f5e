"""A grid of training checkpoints: what may be asked, and what its pictures are."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from api.domain.generation import LoraChoice
from api.domain.grid import GridRequest
from api.errors import InputError

ONE, OTHER = UUID(int=1), UUID(int=2)


def test_a_grid_has_its_size_and_no_more_than_a_sweep() -> None:
    request = GridRequest(prompts=["a", "b"], scales=[0.5, 1.0], seeds=[1, 2, 3])
    request.require_size(41)
    with pytest.raises(InputError, match="504 pictures") as refused:
        request.require_size(42)
    assert refused.value.code == "grid_too_large"
    with_bare = GridRequest(prompts=["a"], scales=[0.5, 1.0], without=True)
    with_bare.require_size(249)
    with pytest.raises(InputError, match="501 pictures"):
        with_bare.require_size(250)


def test_a_picture_has_the_first_of_each_axis_and_the_stack_behind_its_checkpoint() -> None:
    request = GridRequest(
        prompts=["a", "b"],
        seeds=[7, 8],
        scales=[0.5],
        loras=[LoraChoice(model_id=ONE)],
        width=64,
        num_inference_steps=4,
    )
    picture = request.picture(LoraChoice(checkpoint_id=OTHER), "flux-tiny")
    assert (picture.prompt, picture.seed, picture.width, picture.base_model) == ("a", 7, 64, "flux-tiny")
    assert [(each.model_id, each.checkpoint_id) for each in picture.loras] == [(None, OTHER), (ONE, None)]
    assert "height" not in picture.model_fields_set
    assert request.picture(None, "flux-tiny").loras == [LoraChoice(model_id=ONE)]


def test_without_seeds_the_picture_has_none() -> None:
    assert GridRequest(prompts=["a"]).picture(None, "flux-tiny").seed is None


@pytest.mark.parametrize(
    "wrong", [{"steps": []}, {"steps": [0]}, {"steps": [5, 5]}, {"scales": [3.0]}, {"prompts": []}]
)
def test_what_draws_nothing_or_twice_the_same_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GridRequest.model_validate({"prompts": ["a"], **wrong})
