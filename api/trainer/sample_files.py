"""The pictures that a trainer has drawn, as it leaves them: whole or half written, each with a band below it."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from api.domain.samples import SampleName, parse_name
from api.trainer.workdir import Workdir


def found(workdir: Workdir) -> dict[SampleName, Path]:
    """All that are there, by step and prompt."""
    named = ((parse_name(path.name), path) for path in workdir.samples.glob("step_*"))
    return dict(sorted((name, path) for name, path in named if name is not None))


def cut_out(path: Path, name: SampleName, target: Path) -> bool:
    """Write the picture itself, without its band, as a PNG; whether that was possible.

    It is not for one that the trainer is writing now, or was when it died.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError):
        return False
    picture.crop((0, 0, min(name.width, picture.width), min(name.height, picture.height))).save(target, "PNG")
    return True
