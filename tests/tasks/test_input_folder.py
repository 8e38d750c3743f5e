"""Pictures are in ComfyUI's input folder exactly as long as a prompt uses them."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.errors import EngineError
from api.settings import Settings
from api.storage import Storage, open_storage
from api.tasks.input_folder import InputFolder
from tests.service import png

KEY = "inputs/a.png"
SHA256 = hashlib.sha256(png()).hexdigest()
NAME = f"masuka-{SHA256}.png"


@pytest.fixture
async def storage(settings: Settings, tmp_path: Path) -> AsyncIterator[Storage]:
    (tmp_path / "a.png").write_bytes(png())
    async with open_storage(settings) as opened:
        await opened.put_file(KEY, tmp_path / "a.png")
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "input"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


async def test_the_last_of_two_users_removes_the_picture(storage: Storage, folder: Path) -> None:
    inputs = InputFolder(storage, folder)
    async with inputs.holding(KEY, SHA256) as name:
        assert (name, (folder / name).read_bytes()) == (NAME, png())
        async with inputs.holding(KEY, SHA256) as again:
            assert again == name
        assert names(folder) == [NAME]
    assert names(folder) == []


async def test_a_picture_of_another_content_is_refused_and_not_left(storage: Storage, folder: Path) -> None:
    with pytest.raises(EngineError) as caught:
        async with InputFolder(storage, folder).holding(KEY, "0" * 64):
            raise AssertionError("unreachable")
    assert (caught.value.code, names(folder)) == ("input_damaged", [])


async def test_a_picture_that_is_gone_is_told_and_a_later_one_is_not_harmed(storage: Storage, folder: Path) -> None:
    inputs = InputFolder(storage, folder)
    with pytest.raises(EngineError) as caught:
        async with inputs.holding("inputs/gone.png", SHA256):
            raise AssertionError("unreachable")
    assert caught.value.code == "input_missing"
    async with inputs.holding(KEY, SHA256):
        assert names(folder) == [NAME]
    assert names(folder) == []


async def test_what_a_dead_worker_has_left_is_removed_and_the_owners_own_files_stay(
    storage: Storage, folder: Path
) -> None:
    folder.mkdir()
    for name in (NAME, f"{NAME}.part", "mine.png"):
        (folder / name).touch()
    InputFolder(storage, folder)
    assert names(folder) == ["mine.png"]
