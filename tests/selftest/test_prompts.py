"""A grid of prompts is the same every time and covers everything; the judge is right about drawn pictures."""

import random

import pytest
from PIL import Image

from api.selftest.prompts import Prompt, grid, grid_of_pairs, judge
from api.selftest.scenes import render
from api.selftest.shapes import COLOURS, SHAPES


def drawn(prompt: Prompt) -> Image.Image:
    return render(random.Random(prompt.text), prompt.shape, COLOURS[prompt.colour], COLOURS[prompt.background])


def test_the_grid_is_fixed_and_a_longer_one_begins_with_the_shorter() -> None:
    assert grid(150)[:36] == grid(36)
    assert grid(1) == [Prompt("a blue ring on a purple background", "purple", "blue", "ring")]


def test_the_grid_asks_for_everything_but_what_cannot_be_seen() -> None:
    prompts = grid(150)

    assert {p.background for p in prompts} == {p.colour for p in prompts} == set(COLOURS)
    assert {p.shape for p in prompts} == set(SHAPES)
    assert not [p for p in prompts if p.colour == p.background]
    assert all(p.text.endswith(f"a {p.colour} {p.shape} on a {p.background} background") for p in prompts)


def test_a_grid_of_pairs_asks_for_each_as_often() -> None:
    pairs = {("red", "moon"), ("black", "ring")}
    prompts = grid_of_pairs(pairs, 20)

    assert sorted((p.colour, p.shape) for p in prompts) == sorted([*pairs] * 10)
    assert not [p for p in prompts if p.colour == p.background]
    assert len({p.background for p in prompts}) > 3


def test_drawn_pictures_are_all_right() -> None:
    prompts = grid(60)

    accuracy = judge(prompts, map(drawn, prompts))

    assert (accuracy.count, accuracy.background, accuracy.colour) == (60, 60, 60)
    assert accuracy.shape >= 59
    assert accuracy.all == accuracy.shape


def test_pictures_of_other_prompts_are_not() -> None:
    prompts = grid(60)

    accuracy = judge(prompts, map(drawn, reversed(prompts)))

    assert accuracy.all == 0
    assert max(accuracy.background, accuracy.colour, accuracy.shape) < 20
    assert str(accuracy) == (
        f"background {accuracy.background}/60, colour {accuracy.colour}/60, shape {accuracy.shape}/60, all 0/60"
    )


def test_every_prompt_needs_its_picture() -> None:
    with pytest.raises(ValueError, match="zip"):
        judge(grid(2), [drawn(grid(1)[0])])
