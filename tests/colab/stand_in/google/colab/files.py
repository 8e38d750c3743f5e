"""The browser's files."""

import shutil
from pathlib import Path

from google.colab import note, told  # type: ignore[import-not-found]


def upload() -> dict[str, bytes]:
    """Into the current folder, as the real one."""
    chosen = sorted(Path(told()["browser"]).iterdir())
    note(f"uploaded {len(chosen)}")
    return {path.name: Path(shutil.copy(path, path.name)).read_bytes() for path in chosen}


def download(filename: str) -> None:
    assert Path(filename).is_file()
    note(f"downloaded {filename}")
