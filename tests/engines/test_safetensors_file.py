import json
import struct
from pathlib import Path

import pytest

from api.engines.safetensors_file import TensorInfo, is_complete, read_shapes, write_with_tensor
from api.errors import EngineError


def write(path: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    header = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
    return write(tmp_path / "small.safetensors", header, b"12345678")


def test_shapes_are_read_from_the_header(small: Path):
    assert read_shapes(small) == {"a": TensorInfo("F32", (1, 2))}


def test_a_tensor_is_added_and_the_others_are_kept(small: Path, tmp_path: Path):
    target = tmp_path / "larger.safetensors"
    write_with_tensor(small, target, "b", TensorInfo("BF16", (3,)), b"abcdef")
    assert read_shapes(target) == {"a": TensorInfo("F32", (1, 2)), "b": TensorInfo("BF16", (3,))}
    assert is_complete(target)
    assert target.read_bytes().endswith(b"12345678abcdef")


def test_a_cut_off_file_is_not_complete(small: Path):
    assert is_complete(small)
    small.write_bytes(small.read_bytes()[:-1])
    assert not is_complete(small)
    assert not is_complete(small.with_name("absent"))


@pytest.mark.parametrize(
    "content",
    [b"", b"1234567", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 2) + b"\xff{"],
)
def test_what_is_no_safetensors_file_is_an_error(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"broken\.safetensors") as error:
        read_shapes(path)
    assert error.value.code == "weights_unreadable"
    assert not is_complete(path)


def test_a_header_without_shapes_is_an_error(tmp_path: Path):
    with pytest.raises(EngineError):
        read_shapes(write(tmp_path / "x.safetensors", {"a": {"dtype": "F32"}}))
