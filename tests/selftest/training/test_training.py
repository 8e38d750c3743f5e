"""The real script, all stages on a handful of pictures in seconds. docs/flux-tiny.md says what it learns in an hour."""

import json
import os
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from api.engines import locate
from api.engines.flux_tiny import STORED_FILES
from api.engines.safetensors_file import TensorInfo, is_complete, read_shapes
from api.settings import PROJECT_ROOT, Settings

pytestmark = [pytest.mark.engines, pytest.mark.timeout(240)]

WEIGHTS = "diffusion_pytorch_model.safetensors"
SCRIPT = PROJECT_ROOT / "scripts" / "train-flux-tiny"


def train(out: Path, engines_dir: Path, *options: str) -> str:
    environment = os.environ | {"MASUKA_ENGINES_DIR": str(engines_dir), "OMP_NUM_THREADS": "1"}
    command = [str(SCRIPT), "--out", str(out), "--scenes", "60", "--judged", "9", *options]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture(scope="module")
def trained(engines_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All stages, for 3 seconds."""
    out = tmp_path_factory.mktemp("training")
    return out, train(out, engines_dir, "--minutes", "0.05")


def shapes(folder: Path) -> dict[str, dict[str, TensorInfo]]:
    return {str(path.relative_to(folder)): read_shapes(path) for path in folder.rglob("*.safetensors")}


def test_the_result_has_the_files_and_tensors_that_the_project_keeps(trained: tuple[Path, str]) -> None:
    result = trained[0] / "flux_tiny"

    assert {p.relative_to(result) for p in result.rglob("*")} == {
        p.relative_to(STORED_FILES) for p in STORED_FILES.rglob("*")
    }
    assert shapes(result) == shapes(STORED_FILES)
    assert all(is_complete(path) for path in result.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in result.rglob("*") if path.is_file()) < 12_000_000


def test_both_trained_parts_are_new_and_the_frozen_encoders_come_out_as_they_are_kept(
    trained: tuple[Path, str],
) -> None:
    result = trained[0] / "flux_tiny"

    for part in ("vae", "transformer"):
        assert (result / part / WEIGHTS).read_bytes() != (STORED_FILES / part / WEIGHTS).read_bytes()
    for encoder in ("text_encoder", "text_encoder_2"):
        file = f"{encoder}/layers.safetensors"
        assert (result / file).read_bytes() == (STORED_FILES / file).read_bytes()


def test_it_says_how_good_the_weights_are(trained: tuple[Path, str]) -> None:
    said = trained[1]

    assert len(re.findall(r"held out: +(?:scene|large|word|faced|doodle) +-?[\d.]+ dB", said)) >= 10
    for side, name in product((64, 128), ("seen", "held out")):
        assert re.search(rf"{side} px, pairs {name}: background \d+/9, colour \d+/9, shape \d+/9, all \d+/9", said)


def test_a_decoder_that_is_trained_further_leaves_the_encoder_alone(
    trained: tuple[Path, str], engines_dir: Path
) -> None:
    result = trained[0] / "flux_tiny" / "vae" / WEIGHTS
    before = tensors(result)

    said = train(trained[0], engines_dir, "--stage", "decoder", "--minutes", "0.1", "--resume")

    changed = {name for name, data in tensors(result).items() if data != before[name]}
    assert {name.split(".")[0] for name in changed} == {"decoder"}
    assert re.search(r"resumed after step [1-9]", said)


def test_one_weighted_padding_token_is_all_that_comfyui_pads_with(settings: Settings) -> None:
    python = str(locate.simpletuner(settings).python)
    command = [python, "-m", "tests.selftest.training.padding", str(STORED_FILES / "transformer")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout

    weighted, unweighted = map(float, said.split())
    assert weighted < 1e-4
    assert unweighted > 0.1


def tensors(path: Path) -> dict[str, bytes]:
    """Name and bytes of each tensor of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {
        name: data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
        for name, entry in header.items()
        if name != "__metadata__"
    }
