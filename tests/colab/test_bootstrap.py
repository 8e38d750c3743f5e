"""`scripts/bootstrap` where the environment leads uv elsewhere, as Colab's does: into its own packages."""

import os
import shutil
import subprocess
from pathlib import Path

from api.settings import PROJECT_ROOT

COLABS = {
    "UV_SYSTEM_PYTHON": "true",
    "UV_CONSTRAINT": "/backend-container/containers/requirements.constraints",
    "UV_BUILD_CONSTRAINT": "/backend-container/containers/build.constraints",
    "UV_PRERELEASE": "if-necessary-or-explicit",
    "PIP_CONSTRAINT": "/backend-container/containers/requirements.constraints",
}
PYTHON = "#!/bin/sh\nexit 0\n"
UV = '#!/bin/sh\n[ "$1" = --version ] && exit 0\n{ echo "uv $*"; env; } >> uv.log\n'


def test_only_its_own_environment_is_installed_into(tmp_path: Path) -> None:
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, text in (("python", PYTHON), ("uv", UV), ("masuka", PYTHON)):
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    (tmp_path / "scripts").mkdir()
    shutil.copy(PROJECT_ROOT / "scripts" / "bootstrap", tmp_path / "scripts")
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    subprocess.run([tmp_path / "scripts" / "bootstrap"], env={**os.environ, **COLABS}, check=True)
    said = (tmp_path / "uv.log").read_text().splitlines()
    calls = [line for line in said if line.startswith("uv ")]
    assert len(calls) == 2
    assert [call for call in calls if "--python .venv/bin/python" not in call] == []
    assert [line for line in said if line.partition("=")[0] in COLABS] == []
