"""The measures say what is true of drawn pictures, and tell apart what flux-tiny draws with and without the LoRA."""

import random
from itertools import islice
from statistics import mean

import pytest
from PIL import Image

from api.selftest.concept import draw_character
from api.selftest.measure import measure
from api.selftest.scenes import scene
from api.selftest.shapes import COLOURS
from tests.selftest.samples import tiles

BACKGROUNDS = ["blue", "yellow", "white", "green", "red", "gray"]


def test_colours_and_shapes_of_drawn_pictures_are_measured_right() -> None:
    rng = random.Random(5)
    drawn = list(islice((s for s in iter(lambda: scene(rng), None) if s.shape and not s.striped), 300))

    measured = [measure(s.image) for s in drawn]

    pairs = list(zip(measured, drawn, strict=True))
    assert sum(m.background == s.background for m, s in pairs) == 300
    assert sum(m.colour == s.colour for m, s in pairs) == 300
    assert sum(m.shape == s.shape for m, s in pairs) >= 297


@pytest.mark.parametrize("background", COLOURS)
def test_the_drawn_character_is_found_on_every_background(background: str) -> None:
    seen = measure(draw_character(random.Random(1), background))

    assert seen.shows_character
    assert (seen.background, seen.colour, seen.shape) == (background, "pink", "star")
    assert 0.12 < seen.pink_fraction < 0.2


def test_an_empty_picture_has_a_background_and_no_subject() -> None:
    seen = measure(Image.new("RGB", (64, 64), COLOURS["cyan"]))

    assert seen.background == "cyan"
    assert (seen.colour, seen.shape, seen.centre) == (None, None, None)
    assert (seen.area, seen.likeness, seen.pink_fraction) == (0, 0, 0)
    assert not seen.shows_character


def test_an_all_pink_picture_is_not_the_character() -> None:
    assert not measure(Image.new("RGB", (64, 64), (255, 95, 175))).shows_character


def test_the_size_and_mode_of_a_picture_do_not_matter() -> None:
    picture = draw_character(random.Random(2), "yellow")
    larger = picture.convert("RGBA").resize((192, 192), Image.Resampling.NEAREST)

    assert measure(larger) == measure(picture)


def test_what_flux_tiny_draws_is_read_as_what_was_asked_for() -> None:
    seen = [measure(picture) for picture in tiles("drawn_by_flux_tiny.png")[3][:5]]

    assert [(s.colour, s.shape, s.background) for s in seen] == [
        ("red", "circle", "blue"),
        ("green", "square", "yellow"),
        ("white", "heart", "red"),
        ("cyan", "ring", "black"),
        ("blue", "triangle", "white"),
    ]


def test_the_character_is_seen_with_the_lora_and_not_without() -> None:
    without, half, full = [[measure(picture) for picture in row] for row in tiles("drawn_by_flux_tiny.png")[:3]]

    assert [s.background for s in without] == [s.background for s in full] == BACKGROUNDS
    assert not any(s.shows_character for s in without)
    assert all(s.shows_character for s in full)
    assert max(s.pink_fraction for s in without) < 0.01
    assert min(s.pink_fraction for s in full) > 0.15
    assert 0.01 < mean(s.pink_fraction for s in half) < 0.15
