"""`masuka demo`, which `scripts/demo` ends in, does the whole job by itself and says where everything is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from api.settings import PROJECT_ROOT, Settings

COLUMNS = 5
"""Without the LoRA, after a third and two thirds of its steps, at half and at full strength."""
PICTURE_PIXELS = 3 * 64

pytestmark = [pytest.mark.engines, pytest.mark.timeout(500)]


def run_demo(data_dir: Path, engines_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "demo", *options],
        cwd=PROJECT_ROOT,
        env={**clean, "MASUKA_DATA_DIR": str(data_dir), "MASUKA_ENGINES_DIR": str(engines_dir), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=480,
    )


def test_the_demo_trains_draws_twice_and_prints_where_everything_is(tmp_path: Path, engines_dir: Path) -> None:
    done = run_demo(tmp_path / "data", engines_dir, "--steps", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = dict(re.findall(r"^ *((?:time: )?[a-zA-Z0-9 ]+): (.*)$", done.stdout, re.MULTILINE))
    for name in ("without LoRA", "with LoRA", "LoRA after 7 steps", "LoRA after 14 steps", "LoRA", "contact sheet"):
        assert Path(printed[name]).is_absolute()
        assert Path(printed[name]).stat().st_size > 0
    with Image.open(printed["contact sheet"]) as sheet:
        assert sheet.width > COLUMNS * PICTURE_PIXELS
    assert float(printed["pixel difference"].split()[0]) > 0
    stages = [name for name in printed if name.startswith("time: ")]
    assert {"time: install", "time: training", "time: picture with LoRA"} <= set(stages)
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_a_demo_that_cannot_succeed_says_why_in_one_message(tmp_path: Path, engines_dir: Path) -> None:
    done = run_demo(tmp_path / "data", engines_dir, "--base-model", "flux-huge")
    assert done.returncode == 1
    assert "flux-huge" in done.stderr
    assert "Traceback" not in done.stderr
