"""Pictures that are there: shown, downloaded, put aside; and which LoRA a word means."""

import asyncio
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.colab import drawing, gallery
from api.colab.client import Api
from api.colab.errors import NotebookError
from api.settings import Settings
from tests.colab.conftest import Account
from tests.finished import drawn, finished
from tests.service import Service, over_http, serving, with_values


@dataclass(frozen=True)
class Pictures:
    service: Service
    api: Api
    ids: list[str]


@pytest.fixture
async def pictures(settings: Settings, valkey_url: str, tmp_path: Path) -> AsyncIterator[Pictures]:
    """Two, the newer one first."""
    mine = with_values(settings, redis_url=valkey_url)
    async with serving(mine) as service, over_http(mine) as http:
        ids = [await finished(service, tmp_path, drawn(), prompt=prompt) for prompt in ("a lake", "a hill " * 20)]
        yield Pictures(service, Api(str(http.base_url).rstrip("/"), ""), ids[::-1])


async def test_the_newest_are_shown_with_their_ids(pictures: Pictures, capsys: pytest.CaptureFixture[str]) -> None:
    assert await asyncio.to_thread(gallery.show_newest, pictures.api, 10) == pictures.ids
    hill, lake = capsys.readouterr().out.splitlines()
    assert lake == f"{pictures.ids[1]}  a lake"
    assert (hill.startswith(f"{pictures.ids[0]}  a hill a hill"), hill.endswith("…")) == (True, True)


async def test_one_is_a_file_and_many_are_a_zip_and_the_browser_gets_them(
    pictures: Pictures, colab: Account, tmp_path: Path
) -> None:
    done = colab()
    (one,) = gallery.ids_of(pictures.api, pictures.ids[0])
    saved = await asyncio.to_thread(gallery.download, pictures.api, [one], tmp_path / "downloads")
    assert saved.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    every = await asyncio.to_thread(gallery.ids_of, pictures.api, "all")
    assert every == pictures.ids == gallery.ids_of(pictures.api, ", ".join(pictures.ids))
    zipped = await asyncio.to_thread(gallery.download, pictures.api, every, tmp_path / "downloads")
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == [f"{each}.png" for each in every]
        assert archive.read(saved.name) == saved.read_bytes()
    assert done.read_text() == f"downloaded {saved}\ndownloaded {zipped}\n"


async def test_what_is_put_aside_is_shown_no_more(pictures: Pictures, capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.to_thread(gallery.delete, pictures.api, pictures.ids)
    assert "2 put aside" in capsys.readouterr().out
    assert await asyncio.to_thread(gallery.show_newest, pictures.api, 10) == []
    with pytest.raises(NotebookError, match="Set PICTURES"):
        gallery.ids_of(pictures.api, " ")


async def test_a_lora_is_named_by_id_or_name_or_as_the_newest(pictures: Pictures) -> None:
    def meant(word: str) -> str | None:
        return drawing._model(pictures.api, word)

    assert [await asyncio.to_thread(meant, word) for word in ("newest", "none", "")] == [None, None, None]
    old = (await pictures.service.model(name="old"))["id"]
    new = (await pictures.service.model(name="new", rank=8))["id"]
    words = ("newest", "new", "old", old, "none")
    assert [await asyncio.to_thread(meant, word) for word in words] == [new, new, old, old, None]
    with pytest.raises(NotebookError, match="There are: new, old"):
        await asyncio.to_thread(meant, "older")
