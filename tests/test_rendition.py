"""Pictures in other forms: the same pixels as far as the format allows, and the graph where ComfyUI's canvas looks."""

import json
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.domain.picture_format import PictureFormat, Rendering, ThumbnailSize
from api.errors import ConflictError
from api.rendition import make_thumbnail, render, with_even_chunks
from tests.finished import GRAPH, drawn

TEXT = "a cat ☃\nSteps: 4"


def rendered(folder: Path, data: bytes, wish: Rendering) -> bytes:
    (folder / "source.png").write_bytes(data)
    render(folder / "source.png", folder / "target", wish)
    return (folder / "target").read_bytes()


def as_the_canvas_reads(webp: bytes) -> dict[str, str]:
    """`getWebpMetadata` of ComfyUI's frontend 1.32.9, which knows no padding: all texts of the first directory."""
    offset = 12
    while offset < len(webp):
        kind, (length,) = webp[offset : offset + 4], struct.unpack_from("<I", webp, offset + 4)
        if kind == b"EXIF":
            return texts_in(webp[offset + 8 : offset + 8 + length])
        offset += 8 + length
    return {}


def texts_in(exif: bytes) -> dict[str, str]:
    order = "<" if exif[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (entries,) = struct.unpack_from(f"{order}H", exif, directory)
    found = {}
    for entry in range(entries):
        _, kind, count, at = struct.unpack_from(f"{order}HHII", exif, directory + 2 + entry * 12)
        if kind == 2:
            name, _, text = exif[at : at + count - 1].decode().partition(":")
            found[name] = text
    return found


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


@pytest.mark.parametrize("width", range(60, 70))
def test_the_canvas_finds_the_graph_in_a_webp_however_long_its_parts_are(tmp_path: Path, width: int) -> None:
    data = rendered(tmp_path, drawn((width, 64)), Rendering(PictureFormat.WEBP))
    assert json.loads(as_the_canvas_reads(data)["prompt"]) == GRAPH
    assert pixels(data).shape == (64, width, 3)


def test_a_workflow_of_the_canvas_goes_along(tmp_path: Path) -> None:
    texts = {"prompt": json.dumps(GRAPH), "workflow": '{"nodes": []}'}
    data = rendered(tmp_path, drawn(texts=texts), Rendering(PictureFormat.WEBP))
    assert as_the_canvas_reads(data) == texts


def test_a_jpeg_has_the_graph_in_its_exif(tmp_path: Path) -> None:
    data = rendered(tmp_path, drawn(), Rendering(PictureFormat.JPEG))
    with Image.open(BytesIO(data)) as image:
        assert json.loads(image.getexif()[0x0110].removeprefix("prompt:")) == GRAPH


@pytest.mark.parametrize("format", [PictureFormat.WEBP, PictureFormat.JPEG])
def test_more_quality_is_more_bytes_and_nearer_to_the_picture(tmp_path: Path, format: PictureFormat) -> None:
    original = drawn()
    poor, good = (rendered(tmp_path, original, Rendering(format, quality)) for quality in (20, 95))
    off = [np.abs(pixels(data) - pixels(original)).mean() for data in (poor, good)]
    assert len(poor) < len(good)
    assert off[0] > off[1]


@pytest.mark.parametrize("format", PictureFormat)
def test_the_same_wish_gives_the_same_bytes(tmp_path: Path, format: PictureFormat) -> None:
    wish, data = Rendering(format, 80, TEXT), drawn()
    assert rendered(tmp_path, data, wish) == rendered(tmp_path, data, wish)


@pytest.mark.parametrize("text", ["plain", TEXT])
def test_a_png_with_a_text_for_others_is_otherwise_as_it_was(tmp_path: Path, text: str) -> None:
    original = drawn()
    data = rendered(tmp_path, original, Rendering(parameters=text))
    assert data[:33] + data[-(len(original) - 33) :] == original
    with Image.open(BytesIO(data)) as image:
        image.verify()
    with Image.open(BytesIO(data)) as image:
        image.load()
        assert image.text == {"parameters": text, "prompt": json.dumps(GRAPH)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("format", [PictureFormat.WEBP, PictureFormat.JPEG])
def test_the_text_for_others_is_the_user_comment_beside_the_graph(tmp_path: Path, format: PictureFormat) -> None:
    data = rendered(tmp_path, drawn(), Rendering(format, parameters=TEXT))
    with Image.open(BytesIO(data)) as image:
        exif = image.getexif()
        assert json.loads(exif[0x0110].removeprefix("prompt:")) == GRAPH
        assert exif.get_ifd(0x8769)[0x9286] == b"UNICODE\0" + TEXT.encode("utf-16-be")


def test_a_graph_that_no_jpeg_can_hold_is_said_so(tmp_path: Path) -> None:
    data = drawn(texts={"prompt": json.dumps({"1": "x" * 66000})})
    with pytest.raises(ConflictError) as caught:
        rendered(tmp_path, data, Rendering(PictureFormat.JPEG))
    assert caught.value.code == "graph_too_large"
    assert len(as_the_canvas_reads(rendered(tmp_path, data, Rendering(PictureFormat.WEBP)))["prompt"]) > 66000


def test_transparency_is_kept_by_webp_and_left_out_by_jpeg(tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.new("RGBA", (65, 33), (255, 0, 0, 128)).save(buffer, "PNG")
    for format, mode in ((PictureFormat.WEBP, "RGBA"), (PictureFormat.JPEG, "RGB")):
        with Image.open(BytesIO(rendered(tmp_path, buffer.getvalue(), Rendering(format)))) as image:
            image.load()
            assert image.mode == mode


@pytest.mark.parametrize("data", [drawn()[:5000], b"", b"GIF89a" + bytes(100)])
def test_a_picture_that_is_damaged_is_said_so(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ConflictError) as caught:
        rendered(tmp_path, data, Rendering(PictureFormat.WEBP))
    assert caught.value.code == "file_damaged"


def test_chunks_of_even_length_stay_as_they_are() -> None:
    buffer = BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "WEBP", lossless=True)
    data = buffer.getvalue()
    assert with_even_chunks(with_even_chunks(data)) == with_even_chunks(data)


@pytest.mark.parametrize("size", ThumbnailSize)
@pytest.mark.parametrize("shape", [(2000, 1000), (300, 1500), (40, 30)])
def test_a_thumbnail_fits_its_square_in_proportion_and_is_never_larger(
    tmp_path: Path, size: ThumbnailSize, shape: tuple[int, int]
) -> None:
    (tmp_path / "source.png").write_bytes(drawn(shape))
    make_thumbnail(tmp_path / "source.png", tmp_path / "small.webp", size.side)
    factor = min(1.0, size.side / max(shape))
    with Image.open(tmp_path / "small.webp") as image:
        assert image.format == "WEBP"
        assert image.size == tuple(round(side * factor) for side in shape)
