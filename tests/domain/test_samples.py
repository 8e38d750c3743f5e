"""What a training draws on its way, and how the trainer's files are recognised."""

import pytest

from api.domain.samples import MAX_PROMPT_CHARACTERS, SampleName, default_prompts, parse_name, side


def test_the_trigger_word_is_drawn_in_new_places() -> None:
    prompts = default_prompts("ohwx", ["ohwx at the sea"])
    assert len(prompts) == 2
    assert all("ohwx" in prompt for prompt in prompts)


def test_without_a_trigger_word_the_first_different_captions_are_drawn() -> None:
    captions = ["", "a ball\nin the second line", " a ball ", "x" * (MAX_PROMPT_CHARACTERS + 1), "a cube", "a cone"]
    assert default_prompts(None, captions) == ["a ball", "a cube"]
    assert default_prompts(None, []) == []


def test_a_file_of_the_trainer_says_step_prompt_and_size() -> None:
    assert parse_name("step_250_p1_0_1024x768.png") == SampleName(250, 1, 1024, 768)


@pytest.mark.parametrize(
    "name", ["step_250_unconditional_0_64x64.png", "step_x_p1_0_64x64.png", "p1.png", "step_1_p1_0_64x64.png.part"]
)
def test_other_files_are_left_alone(name: str) -> None:
    assert parse_name(name) is None


def test_samples_are_as_large_as_the_training_but_never_larger_than_the_base_draws_well() -> None:
    assert (side(64), side(1024), side(2048)) == (64, 1024, 1024)
