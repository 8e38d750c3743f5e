"""LoRA files on disk."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from api.errors import InputError
from api.trainer import lora as module_under_test
from api.trainer.lora import check_lora, single_file_targets, write_with_alpha
from tests.trainer.lora_files import bf16, f32, file_bytes, lora, pair


def test_a_good_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = lora(tmp_path / "a.safetensors", pair("transformer.x", rank=8) | pair("transformer.y"), {"format": "pt"})

    found = check_lora(path)

    assert [m.name for m in found.modules] == ["transformer.x", "transformer.y"]
    assert (found.rank, found.tensors, found.metadata) == (8, 4, {"format": "pt"})


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_bytes(pair("transformer.x"))[:cut])

    with pytest.raises(InputError) as caught:
        check_lora(path)

    assert caught.value.code == "lora_invalid"


@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80])
def test_one_number_that_is_not_finite_is_found(tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "CHUNK_BYTES", 5)  # more pieces than one, and an odd size
    numbers = np.full((4, 6), 0x3F00, dtype="<u2")
    numbers[-1, -1] = bits
    tensors = pair("transformer.x") | {"transformer.x.lora_A.weight": ("BF16", [4, 6], numbers.tobytes())}

    with pytest.raises(InputError, match=r"transformer\.x\.lora_A\.weight holds NaN or infinity") as caught:
        check_lora(lora(tmp_path / "a.safetensors", tensors))

    assert caught.value.code == "lora_not_finite"


def test_alpha_is_written_for_every_module_and_nothing_else_changes(tmp_path: Path) -> None:
    tensors = pair("transformer.x") | {"transformer.x.alpha": f32(fill=4.0)} | pair("transformer.y")
    source = lora(tmp_path / "a.safetensors", tensors, {"format": "pt", "mine": "0"})

    written = write_with_alpha(source, tmp_path / "b.safetensors", 16, {"mine": "1"})

    content = written.path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = check_lora(written.path)
    assert found.metadata == {"format": "pt", "mine": "1"}
    assert np.frombuffer(content[start : start + 8], dtype="<f4").tolist() == [16.0, 16.0]
    assert (
        content[start + 8 :] == file_bytes(pair("transformer.x") | pair("transformer.y"))[-len(content) + start + 8 :]
    )
    assert found.tensors == 6
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert written.size_bytes == len(content)


def test_the_same_lora_and_alpha_give_the_same_bytes(tmp_path: Path) -> None:
    source = lora(tmp_path / "a.safetensors", pair("transformer.x"))

    first = write_with_alpha(source, tmp_path / "b.safetensors", 16, {"k": "v", "a": "b"})
    second = write_with_alpha(source, tmp_path / "c.safetensors", 16, {"a": "b", "k": "v"})
    other = write_with_alpha(source, tmp_path / "d.safetensors", 8, {"k": "v", "a": "b"})

    assert first.sha256 == second.sha256 != other.sha256


def test_a_bad_source_leaves_nothing_behind(tmp_path: Path) -> None:
    source = lora(tmp_path / "a.safetensors", {"weight": bf16(2, 2)})

    with pytest.raises(InputError):
        write_with_alpha(source, tmp_path / "b.safetensors", 16, {})

    assert list(tmp_path.iterdir()) == [source]


def test_the_targets_of_a_single_file_are_its_matrices(tmp_path: Path) -> None:
    matrix, norm = bf16(24, 6), bf16(8)
    path = lora(
        tmp_path / "flux.safetensors",
        {"model.diffusion_model.double.qkv.weight": matrix, "single.linear1.weight": matrix}
        | {"single.linear1.bias": norm, "single.norm.weight": norm},
    )

    assert single_file_targets(path) == {
        "diffusion_model.double.qkv": (24, 6),
        "diffusion_model.single.linear1": (24, 6),
    }
