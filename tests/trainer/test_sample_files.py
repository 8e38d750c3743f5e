"""What a trainer has drawn, cut out of its band; what it has not finished is left for later."""

import io
from pathlib import Path

from PIL import Image

from api.domain.samples import SampleName
from api.trainer.sample_files import cut_out, found
from api.trainer.workdir import Workdir

NAME = SampleName(3, 0, 64, 64)


def banded() -> bytes:
    image = Image.new("RGB", (64, 111), "black")
    image.paste((10, 200, 30), (0, 0, 64, 64))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_picture_is_what_is_above_the_band(tmp_path: Path) -> None:
    (tmp_path / "drawn.png").write_bytes(banded())
    assert cut_out(tmp_path / "drawn.png", NAME, tmp_path / "cut.png")
    with Image.open(tmp_path / "cut.png") as cut:
        assert (cut.size, cut.getcolors()) == ((64, 64), [(64 * 64, (10, 200, 30))])


def test_a_picture_that_is_half_written_is_none_yet(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 111), 90).save(buffer, "PNG")
    data = buffer.getvalue()
    for size in (0, 8, len(data) // 2, len(data) - 100):
        (tmp_path / "drawn.png").write_bytes(data[:size])
        assert not cut_out(tmp_path / "drawn.png", NAME, tmp_path / "cut.png")
        assert not (tmp_path / "cut.png").exists()


def test_they_are_found_by_step_and_prompt(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    assert found(workdir) == {}
    workdir.samples.mkdir(parents=True)
    for name in (
        "step_10_p0_0_64x64.png",
        "step_9_p1_0_64x64.png",
        "step_9_p0_0_64x64.png",
        "step_9_other_0_64x64.png",
    ):
        (workdir.samples / name).touch()
    assert [(name.step, name.position) for name in found(workdir)] == [(9, 0), (9, 1), (10, 0)]
