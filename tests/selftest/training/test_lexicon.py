"""Invented words of the training that stand for something."""

import random
from collections import defaultdict

import numpy as np

from api.selftest.concept import TRIGGER_WORD
from api.selftest.measure import measure
from api.selftest.shapes import COLOURS, SHAPES
from api.selftest.training.lexicon import CONTROL_WORDS, WORDS, word_scene, words


def test_they_are_as_many_as_said_and_mean_nothing_else() -> None:
    assert len(set(words())) == WORDS
    assert not set(words()) & {*CONTROL_WORDS, *COLOURS, *SHAPES, TRIGGER_WORD}


def test_a_word_stands_for_the_same_thing_on_every_background() -> None:
    rng = random.Random(1)
    looks = defaultdict(list)
    for s in (word_scene(rng) for _ in range(900)):
        assert f"{s.invented_word} on a {s.background} background" in s.caption
        colour = np.median(np.asarray(s.image)[28:36, 28:36].reshape(-1, 3), axis=0)
        seen = measure(s.image)
        if seen.shape not in ("ring", "moon", None):  # the middle of these is background
            looks[s.invented_word].append((colour, seen.shape, seen.likeness))

    often = [seen for seen in looks.values() if len(seen) > 3]
    assert len(often) > 50
    spreads = [max(np.ptp([colour for colour, _, _ in seen], axis=0)) for seen in often]
    assert np.median(spreads) < 20, "only as much as any drawn colour varies"
    clear = [{shape for _, shape, likeness in seen if likeness > 0.9} for seen in often]
    assert sum(len(shapes) <= 1 for shapes in clear) > 0.9 * len(clear)


def test_different_words_look_different() -> None:
    rng = random.Random(2)
    colours = {s.invented_word: tuple(np.asarray(s.image)[32, 32] // 32) for s in (word_scene(rng) for _ in range(300))}

    assert len(set(colours.values())) > 30
