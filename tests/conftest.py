"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest

from api.settings import PROJECT_ROOT, Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not reach a test."""
    for name in Settings.model_fields:
        if name != "masuka_engines_dir":
            monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def engines_dir() -> Path:
    """Where `scripts/test` has installed the real ComfyUI, the real SimpleTuner and flux-tiny."""
    return Path(os.environ.get("MASUKA_ENGINES_DIR") or PROJECT_ROOT / "data" / "engines")


@pytest.fixture
def settings(tmp_path: Path, engines_dir: Path) -> Settings:
    """Embedded defaults in a folder of the test's own, sharing the installed engines."""
    return Settings(_env_file=None, masuka_data_dir=tmp_path / "data", masuka_engines_dir=engines_dir)  # type: ignore[call-arg]
