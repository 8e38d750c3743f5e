"""Every snippet of the README is run as it stands, in one shell; only port and place of the data are a test's own."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from api.settings import PROJECT_ROOT, Settings
from tests.end_to_end.service import Service

pytestmark = [pytest.mark.engines, pytest.mark.timeout(500)]

SNIPPETS = re.findall(r"```sh\n(.*?)```", (PROJECT_ROOT / "README.md").read_text(), re.DOTALL)
RUN_ELSEWHERE = {
    "scripts/demo\n": "test_demo.py",
    "scripts/test\n": ".ci/run",
    ".venv/bin/masuka up ": "the `service` fixture",
}
"""Snippets that are not repeated here, and where they run."""


def is_run_elsewhere(snippet: str) -> bool:
    return any(snippet.startswith(start) for start in RUN_ELSEWHERE)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """A folder that looks like the project's root and takes what the snippets write."""
    for name in ("scripts", ".venv", "api", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).symlink_to(PROJECT_ROOT / name)
    yield tmp_path
    shutil.rmtree(tmp_path / "photos", ignore_errors=True)


def run(script: str, workplace: Path, service: Service) -> None:
    clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
    env = {**clean, "MASUKA_PORT": str(service.port), "MASUKA_DATA_DIR": str(service.data_dir)}
    env |= {"MASUKA_ENGINES_DIR": os.environ.get("MASUKA_ENGINES_DIR", str(PROJECT_ROOT / "data" / "engines"))}
    text = script.replace("http://127.0.0.1:8000", service.api.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=workplace, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_every_snippet_is_run_here_or_is_known_to_run_elsewhere() -> None:
    assert [start for start in RUN_ELSEWHERE if not any(s.startswith(start) for s in SNIPPETS)] == []
    assert sum(not is_run_elsewhere(snippet) for snippet in SNIPPETS) >= 3
    assert "scripts/test" in (PROJECT_ROOT / ".ci" / "run").read_text()


def test_the_snippets_do_what_the_readme_says(service: Service, workplace: Path) -> None:
    run("\n".join(snippet for snippet in SNIPPETS if not is_run_elsewhere(snippet)), workplace, service)
    pictures = [workplace / "picture.png", workplace / "one.png", *(workplace / "pictures").glob("*.png")]
    assert len(pictures) == 3
    with Image.open(workplace / "sheet.jpg") as sheet:
        assert sheet.width > 4 * 64
    for path in pictures:
        with Image.open(path) as image:
            assert image.size == (64, 64)
