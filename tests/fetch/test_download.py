"""A download goes on where it was cut off, whoever cut it off, and ends with the file or with a reason."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from api.errors import JobError, RetryableError
from api.fetch.download import Wanted, download
from api.fetch.part import Part
from api.fetch.web import Answer
from tests.https_server import FILES, HttpsServer, Reach
from tests.waiting import until

URL, NAME = f"https://{FILES}/a.safetensors", f"{FILES}/a.safetensors"
CONTENT = bytes(range(256)) * 12_000
LIMIT = 4 * 2**20


class Listener:
    def __init__(self) -> None:
        self.totals: list[int | None] = []

    async def answered(self, answer: Answer, total: int | None) -> None:
        self.totals.append(total)

    async def received(self, have: int, total: int | None) -> None:
        assert 0 < have <= LIMIT


async def brought(reach: Reach, folder: Path, *, limit: int = LIMIT) -> bytes:
    path = await download(reach.web, Wanted(URL, limit, "MASUKA_MAX_LORA_MB"), folder, Listener())
    return path.read_bytes()


def ranges(server: HttpsServer) -> list[str]:
    return [get.range for get in server.gets]


async def test_what_is_cut_off_is_gone_on_with(server: HttpsServer, reach: Reach, tmp_path: Path) -> None:
    server.files[NAME] = CONTENT
    server.cut_after.extend([1_500_000, 500_000])
    server.statuses.extend([503])
    assert await brought(reach, tmp_path / "part") == CONTENT
    assert ranges(server) == ["", "", "bytes=1500000-", "bytes=2000000-"]


async def test_a_download_that_was_given_up_goes_on_later(server: HttpsServer, reach: Reach, tmp_path: Path) -> None:
    server.files[NAME] = CONTENT
    server.cut_after.extend([1_500_000, 0, 0, 0, 0, 0])
    with pytest.raises(RetryableError) as caught:
        await brought(reach, tmp_path / "part")
    assert (caught.value.code, caught.value.value) == ("download_failed", URL)
    server.cut_after.clear()
    server.gets.clear()
    assert await brought(reach, tmp_path / "part") == CONTENT
    assert ranges(server) == ["bytes=1500000-"]


async def test_a_download_that_is_stopped_keeps_what_came(server: HttpsServer, reach: Reach, tmp_path: Path) -> None:
    server.files[NAME], server.hold_after = CONTENT, 1_500_000
    part = Part(tmp_path / "part")
    task = asyncio.create_task(brought(reach, part.folder))
    await until(lambda: part.size() >= 2**20)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    have = part.size()
    server.go_on.set()
    server.gets.clear()
    assert await brought(reach, part.folder) == CONTENT
    assert ranges(server) == [f"bytes={have}-"]


async def test_a_file_that_has_come_whole_is_not_fetched_again(
    server: HttpsServer, reach: Reach, tmp_path: Path
) -> None:
    server.files[NAME] = CONTENT
    for _ in range(2):
        assert await brought(reach, tmp_path / "part") == CONTENT
    assert ranges(server) == ["", f"bytes={len(CONTENT)}-"]


async def test_a_file_that_changes_meanwhile_comes_anew(server: HttpsServer, reach: Reach, tmp_path: Path) -> None:
    server.files[NAME] = CONTENT
    server.cut_after.extend([1_500_000, 0, 0, 0, 0, 0])
    with pytest.raises(RetryableError):
        await brought(reach, tmp_path / "part")
    server.files[NAME] = new = CONTENT[::-1]
    server.cut_after.clear()
    assert await brought(reach, tmp_path / "part") == new


@pytest.mark.parametrize("lacking", ["ranges", "etags"])
async def test_a_server_that_cannot_resume_begins_anew(
    server: HttpsServer, reach: Reach, tmp_path: Path, lacking: str
) -> None:
    server.files[NAME] = CONTENT
    setattr(server, lacking, False)
    server.cut_after.append(1_500_000)
    assert await brought(reach, tmp_path / "part") == CONTENT


async def test_bytes_of_before_a_crash_of_the_machine_are_not_relied_upon(
    server: HttpsServer, reach: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[NAME] = CONTENT
    part = Part(tmp_path / "part")
    monkeypatch.setattr("api.fetch.part.boot_id", lambda: "before")
    part.begin('"of this version"')
    part.append(b"\0" * 1000)
    monkeypatch.undo()
    assert await brought(reach, part.folder) == CONTENT
    assert ranges(server) == [""]


@pytest.mark.parametrize("says_length", [True, False])
async def test_a_file_over_the_limit_is_refused(
    server: HttpsServer, reach: Reach, tmp_path: Path, says_length: bool
) -> None:
    server.files[NAME], server.says_length = CONTENT, says_length
    with pytest.raises(JobError) as caught:
        await brought(reach, tmp_path / "part", limit=2 * 2**20)
    assert caught.value.code == "file_too_large"
    assert "MASUKA_MAX_LORA_MB" in (caught.value.hint or "")
    assert Part(tmp_path / "part").size() <= 2 * 2**20


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_refusal_is_final(server: HttpsServer, reach: Reach, tmp_path: Path, status: int) -> None:
    server.statuses.append(status)
    with pytest.raises(JobError) as caught:
        await brought(reach, tmp_path / "part")
    assert (caught.value.code, caught.value.value) == ("download_refused", status)
    assert not isinstance(caught.value, RetryableError)
    assert len(server.gets) == 1
