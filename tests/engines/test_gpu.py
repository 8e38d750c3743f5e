import os
from pathlib import Path

import pytest

from api.engines import gpu

TWO_CARDS = """\
0, NVIDIA H100 80GB HBM3, 81559, 9.0, 580.65.06
1, Tesla T4, 15360, 7.5, 580.65.06
"""


def fake_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_cards_are_read_with_memory_and_capability():
    large, small = gpu.parse(TWO_CARDS)
    assert (large.name, large.vram_gb, large.compute_capability, large.driver) == (
        "NVIDIA H100 80GB HBM3",
        79.6,
        (9, 0),
        "580.65.06",
    )
    assert (small.index, small.vram_gb) == (1, 15.0)
    assert large.has_fp8
    assert not small.has_fp8
    assert gpu.largest_vram_gb([small, large]) == 79.6


@pytest.mark.parametrize("text", ["", "No devices were found\n", "0, NVIDIA GH200, [N/A], 9.0, 580.65\n", "a, b\n"])
def test_lines_that_name_no_card_are_passed_over(text: str):
    assert gpu.parse(text) == []
    assert gpu.largest_vram_gb(gpu.parse(text)) is None


def test_a_driver_too_old_to_know_its_capability_still_names_the_card():
    (card,) = gpu.parse("0, Tesla K80, 11441, [Not Supported], 390.1\n")
    assert card.compute_capability == (0, 0)
    assert not card.has_fp8


def test_the_machine_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_nvidia_smi(tmp_path, monkeypatch, f'echo "{TWO_CARDS.splitlines()[0]}"')
    assert [card.name for card in gpu.detect()] == ["NVIDIA H100 80GB HBM3"]


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.detect() == []


def test_a_driver_that_does_not_answer_counts_as_no_gpu_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    fake_nvidia_smi(tmp_path, monkeypatch, "exit 9")
    assert gpu.detect() == []
    assert "nvidia-smi" in caplog.text


@pytest.mark.parametrize(("said", "free"), [("20480", 20.0), ("[N/A]", None), ("", None)])
def test_what_is_free_is_asked_of_the_first_card(
    said: str, free: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_nvidia_smi(tmp_path, monkeypatch, f'[ "$2" = --id=0 ] && echo "{said}"')
    assert gpu.free_vram_gb() == free
