"""How the first cell gets the code: once, and what is new of it whenever it runs again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.colab.kernel import source_of

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]


def run(folder: Path, repository: str) -> subprocess.CompletedProcess[str]:
    """The first cell in a kernel that has nothing of ours; what it found is printed."""
    source = source_of("set-up").replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}", 1)
    command = [sys.executable, "-I", "-S", "-c", source + "\nprint(masuka.api_url, root)"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Of a MASUKA that says its number."""
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run([*GIT, "init", "--quiet"], cwd=folder, check=True)
    (folder / "api" / "colab").mkdir(parents=True)
    release(folder, 1)
    return folder


def release(folder: Path, number: int) -> None:
    code = f"class set_up:\n    def __init__(self, base_model, drive): self.api_url = 'release {number}'\n"
    (folder / "api" / "colab" / "setting_up.py").write_text(code)
    subprocess.run([*GIT, "add", "."], cwd=folder, check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", str(number)], cwd=folder, check=True)


def test_it_is_fetched_brought_up_to_date_and_used_as_it_is_without_a_network(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / ".masuka.part").mkdir()  # of a run that was killed
    address = f"file://{repository}"
    assert run(folder, address).stdout.split("\n")[0] == f"release 1 {folder}/masuka"
    release(repository, 22)  # another length: Python tells the files apart by seconds and size
    assert run(folder, address).stdout.split("\n")[0] == f"release 22 {folder}/masuka"
    repository.rename(tmp_path / "away")
    lines = run(folder, address).stdout.split("\n")
    assert lines[:2] == [
        "The code could not be brought up to date; going on with what is there.",
        f"release 22 {folder}/masuka",
    ]
    assert "release 22" in run(folder / "masuka" / "api", "").stdout  # inside a checkout


def test_without_an_address_it_says_what_to_set(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 1
    assert "Set REPOSITORY to the address" in done.stderr
