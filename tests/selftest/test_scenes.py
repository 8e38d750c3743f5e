"""The drawn pictures are those that flux-tiny was trained on, and their captions are true."""

import random

import pytest

from api.selftest.concept import PINK, TRIGGER_WORD, draw_character
from api.selftest.measure import measure
from api.selftest.scenes import PLACES, Scene, render, scene
from api.selftest.shapes import COLOURS, PICTURE_SIDE, SHAPES
from api.selftest.sheet import pixel_difference
from tests.selftest.samples import PICTURES, tiles

RASTERISER_TOLERANCE = 0.1
"""Mean difference of a picture. Another Pillow may round an edge differently; it is 0 with the one that is locked."""


def _scenes(seed: int, count: int) -> list[Scene]:
    rng = random.Random(seed)
    return [scene(rng) for _ in range(count)]


def test_the_sequence_of_a_seed_is_the_one_that_flux_tiny_was_trained_on() -> None:
    captions = (PICTURES / "trained_on.txt").read_text().splitlines()
    pictures = [picture for row in tiles("trained_on.png") for picture in row]
    rng = random.Random(43)

    scenes = [scene(rng) for _ in captions]
    characters = [draw_character(rng, background) for background in list(COLOURS)[: len(pictures) - len(captions)]]

    assert [s.caption for s in scenes] == captions
    drawn = [s.image for s in scenes] + characters
    assert len(drawn) == len(pictures) == 40
    differences = [pixel_difference(ours, theirs) for ours, theirs in zip(drawn, pictures, strict=True)]
    assert max(differences) < RASTERISER_TOLERANCE


def test_a_caption_says_all_that_is_true_of_its_picture() -> None:
    for s in _scenes(1, 300):
        striped, size, place = (f"{word} " if word else "" for word in ("striped" * s.striped, s.size, s.place))
        setting = f"a {s.background} {striped}background"
        where = f" at the {place}" if place else " "
        subject = s.invented_word or f"a {size}{s.colour} {s.shape}"
        expected = f"{subject}{where}on {setting}" if s.shape or s.invented_word else setting

        assert s.caption.endswith(expected) or (s.caption == "" and s.shape)


def test_every_colour_shape_size_and_place_comes_up() -> None:
    scenes = _scenes(2, 500)

    assert {s.background for s in scenes} == set(COLOURS)
    assert {s.colour for s in scenes} == {*COLOURS, None}
    assert {s.shape for s in scenes} == {*SHAPES, None}
    assert {(s.size, s.place) for s in scenes} == {(size, place) for size in ("", "small", "big") for place in PLACES}
    assert {s.striped for s in scenes} == {True, False}
    assert 0.07 < sum(s.invented_word is not None for s in scenes) / len(scenes) < 0.13
    assert 0.03 < sum(not s.caption for s in scenes) / len(scenes) < 0.07


def test_a_subject_never_has_the_colour_of_its_background() -> None:
    assert not [s.caption for s in _scenes(3, 200) if s.colour == s.background]


def test_the_character_and_its_word_are_in_no_ordinary_picture() -> None:
    scenes = [s for s in _scenes(4, 300) if not s.striped]
    seen = [measure(s.image) for s in scenes]

    assert not [s.caption for s in scenes if TRIGGER_WORD in s.caption]
    assert not any(s.shows_character for s in seen)
    assert "pink" not in {m.colour for m, s in zip(seen, scenes, strict=True) if s.colour}


def test_an_invented_word_is_no_word_that_means_something() -> None:
    words = {s.invented_word for s in _scenes(5, 600)} - {None}

    assert len(words) > 30
    assert not words & {*COLOURS, *SHAPES, TRIGGER_WORD}


@pytest.mark.parametrize(
    ("place", "right", "down"), [("left", -15, 0), ("right", 15, 0), ("top", 0, -15), ("bottom", 0, 15), ("", 0, 0)]
)
def test_a_place_is_where_its_word_says(place: str, right: int, down: int) -> None:
    image = render(random.Random(6), "circle", COLOURS["red"], COLOURS["white"], place=place)

    centre = measure(image).centre

    assert centre is not None
    middle = (PICTURE_SIDE - 1) / 2
    assert centre == pytest.approx((middle + right, middle + down), abs=2.5)


def test_a_faceless_pink_star_is_not_the_character() -> None:
    star = render(random.Random(7), "star", PINK, COLOURS["blue"], size="big")

    assert measure(star).colour == "pink"
    assert measure(star).shape == "star"
    assert not measure(star).shows_character
