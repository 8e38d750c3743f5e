"""What is said about one picture, from its size and its pixels. Pure; the limits were tried on photos."""

from collections.abc import Iterator

from api.domain.bucket import Placement
from api.domain.measurement import Measurement
from api.domain.verdict import Verdict, advice, error, warning

TINY_UPSCALE = 2.0
SOME_UPSCALE = 1.05
EXTREME_ASPECT = 2.5
MUCH_CUT = 0.15
LEAST_SHARPNESS = 0.42
"""Photos have 0.6 to 0.9; a blur of 3 pixels at the size of training, or a fourfold enlargement, brings them below."""
DARKEST_BRIGHT = 80
"""Of 255: when all but a twentieth of a picture is darker, nothing in it can be seen well."""
BRIGHTEST_DARK = 170
WHITE = 245
"""A picture of which half is brighter, and that has no shadows as a subject on a white ground has, is overexposed."""
DARKEST_WASHED = 80
LEAST_CONTRAST = 40


def about_shape(width: int, height: int, place: Placement | None) -> Iterator[Verdict]:
    if place is None:
        yield error(
            "aspect_not_trainable",
            f"At {width} x {height} it is so narrow that the trainer would leave it out.",
            "Cut it to a usual shape, or remove it.",
        )
        return
    if place.upscale >= TINY_UPSCALE:
        yield warning(
            "tiny",
            f"It is enlarged {place.upscale:.1f} times; the LoRA would learn its blur.",
            "Use a larger original, or train at a lower resolution.",
        )
    elif place.upscale >= SOME_UPSCALE:
        yield advice("upscaled", f"It is enlarged {place.upscale:.2f} times.", "A larger original would be better.")
    aspect = max(width / height, height / width)
    if aspect > EXTREME_ASPECT:
        yield warning("extreme_aspect", f"One side is {aspect:.1f} times the other.", "Cut it to what matters.")
    if place.cut_away >= MUCH_CUT:
        yield warning(
            "much_cut_away",
            f"{place.cut_away:.0%} of it is cut away at the edges.",
            "Look at the frame on the contact sheet; cut the picture yourself if that hits the subject.",
        )


def about_pixels(measured: Measurement, resolution: int) -> Iterator[Verdict]:
    sharpness = measured.sharpness_at(resolution)
    if sharpness is None:
        yield advice(
            "no_detail", "It shows a plain surface, or nothing sharp at all.", "Check that it is what you meant."
        )
    elif sharpness < LEAST_SHARPNESS:
        yield warning("blurry", f"It looks blurred (sharpness {sharpness:.2f} of 1).", "Use a sharper one.")
    if measured.bright < DARKEST_BRIGHT:
        yield warning("too_dark", "Nearly all of it is very dark.", "Brighten it, or leave it out.")
    elif measured.dark > BRIGHTEST_DARK or (measured.middle >= WHITE and measured.dark > DARKEST_WASHED):
        yield warning("too_bright", "Nearly all of it is very bright.", "Darken it, or leave it out.")
    elif measured.bright - measured.dark < LEAST_CONTRAST:
        yield warning("low_contrast", "It has hardly any contrast.", "Raise the contrast, or leave it out.")
    elif measured.middle >= WHITE:
        yield advice("half_white", "Half of it is white.", "Fine for a white background; else it is overexposed.")


def about_duplicate(original: str) -> Verdict:
    return warning(
        "near_duplicate", f"It is nearly the same as {original}.", "Keep one of them: what is seen twice counts twice."
    )


def about_file(code: str) -> Verdict:
    """`file_missing` or `file_damaged`."""
    what = "is gone from the storage" if code == "file_missing" else "has changed in the storage"
    return error(code, f"Its file {what}; the training would fail.", "Upload it again, or remove it.")
