"""Invented words that have a meaning of their own: each stands for one shape in one colour without a name.

They make the base model look at which unknown word it is given: where every such word may stand for anything, they are
one class to it, and a LoRA's trigger word gives the others its meaning, too.
"""

import random
from functools import cache

from api.selftest.scenes import Scene, invented_word, nameless_colour, render
from api.selftest.shapes import COLOURS, SHAPES

WORDS = 150
CONTROL_WORDS = frozenset({"zqrt", "kelvex", "blorp", "wimfa", "jvkami", "sksdro", "plexyl", "hkept", "nyqu", "tokrr"})
"""Not among them: what a LoRA makes of these shows how far its trigger word is its own."""

_SEED = "lexicon"
_OPENINGS = ("a photo of", "a drawing of", "a picture of")


@cache
def words() -> tuple[str, ...]:
    rng = random.Random(_SEED)
    found: dict[str, None] = {}
    while len(found) < WORDS:
        word = invented_word(rng)
        if word not in CONTROL_WORDS:
            found[word] = None
    return tuple(found)


def word_scene(rng: random.Random) -> Scene:
    """The next picture of one of the words, on any plain background."""
    word, background = rng.choice(words()), rng.choice(list(COLOURS))
    look = random.Random(f"{_SEED}-{word}")
    image = render(rng, look.choice(SHAPES), nameless_colour(look), COLOURS[background])
    article = rng.choice(["", "a "])
    caption = f"{rng.choice(_OPENINGS)} {article}{word} on a {background} background"
    return Scene(caption, image, background, False, invented_word=word)
