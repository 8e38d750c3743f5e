"""What the training draws is the same every time, and only what it may be trained on."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.selftest.measure import measure
from api.selftest.scenes import scene
from api.selftest.shapes import COLOURS
from api.selftest.sheet import pixel_difference
from api.selftest.training import pool
from api.selftest.training.pictures import doodle, faced

COUNTS = {"scene": 12, "large": 3, "word": 4, "faced": 7, "doodle": 5}
SIDES = dict.fromkeys(COUNTS, 64) | {"large": 128}


def test_a_pool_holds_what_was_asked_for_and_true_captions(tmp_path: Path) -> None:
    pool.draw(tmp_path, COUNTS)

    assert {kind: pool.pictures(tmp_path, kind).shape for kind in pool.KINDS} == {
        kind: (count, SIDES[kind], SIDES[kind], 3) for kind, count in COUNTS.items()
    }
    rng = random.Random("scene-0")
    for picture, caption in zip(pool.pictures(tmp_path, "scene"), pool.captions(tmp_path, "scene"), strict=True):
        drawn = scene(rng)
        assert (caption.text, caption.colour, caption.shape) == (drawn.caption, drawn.colour, drawn.shape)
        np.testing.assert_array_equal(picture, np.asarray(drawn.image))
    assert not list(tmp_path.glob(".*"))


def test_large_scenes_are_scenes_at_twice_the_size() -> None:
    (large, *_), (caption, *_) = pool.block("large", 3, 1)
    drawn = scene(random.Random("large-3"))

    assert caption.text == drawn.caption
    halved = Image.fromarray(large).resize(drawn.image.size, Image.Resampling.BOX)
    assert pixel_difference(halved, drawn.image) < 1


def test_a_larger_pool_begins_with_the_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BLOCK", 4)
    pool.draw(tmp_path / "small", COUNTS)
    pool.draw(tmp_path / "large", {kind: count + 6 for kind, count in COUNTS.items()})

    for kind, count in COUNTS.items():
        small, large = (pool.pictures(tmp_path / size, kind) for size in ("small", "large"))
        np.testing.assert_array_equal(small, large[:count])
    assert pool.captions(tmp_path / "small", "scene") == pool.captions(tmp_path / "large", "scene")[: COUNTS["scene"]]


@pytest.mark.parametrize("kind", pool.KINDS)
def test_what_is_held_out_is_never_trained_on(kind: str) -> None:
    held_out, _ = pool.block(kind, pool.HELD_OUT_BLOCK, 8)
    trained_on, _ = pool.block(kind, 0, 40)

    assert not {picture.tobytes() for picture in held_out} & {picture.tobytes() for picture in trained_on}


@pytest.mark.parametrize("painter", [faced, doodle])
def test_the_codec_sees_colours_that_have_no_name(painter) -> None:
    rng = random.Random(3)
    pictures = [np.asarray(painter(rng)) for _ in range(60)]

    hues = {tuple(colour) for picture in pictures for colour in picture.reshape(-1, 3)[::97]}
    assert len(hues - set(COLOURS.values())) > 100
    assert len({picture.tobytes() for picture in pictures}) == 60


def test_some_of_the_codecs_pictures_have_pink_things_with_eyes() -> None:
    rng = random.Random(4)

    assert any(measure(faced(rng)).pupil_fraction > 0.05 for _ in range(200))
