"""Pictures that were drawn: shown small, downloaded whole, put aside."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api.colab import host
from api.colab.client import Api, save
from api.colab.errors import NotebookError
from api.colab.show import Live

WEBP = "image/webp"
PROMPT_SHOWN = 60


def show(api: Api, assets: Sequence[Mapping[str, Any]]) -> None:
    """As thumbnails, with what is needed to draw them again."""
    Live().pictures(
        [
            (_words(each), api.read(f"/api/assets/{each['id']}/thumbnail?size=large"), WEBP)
            for each in assets
            if each["status"] == "completed"
        ]
    )


def show_newest(api: Api, limit: int) -> list[str]:
    found = api.get("/api/assets/", limit=limit, status="completed")["items"]
    if not found:
        Live().text("There are no pictures yet.")
    else:
        show(api, found)
    return [each["id"] for each in found]


def ids_of(api: Api, wish: str | Sequence[str]) -> list[str]:
    """`all`, ids with commas between them, or a list of them."""
    if wish == "all":
        return [each["id"] for each in api.every("/api/assets/") if each["status"] == "completed"]
    named = wish.replace(",", " ").split() if isinstance(wish, str) else list(wish)
    if not named:
        raise NotebookError(
            "No pictures are named.", code="pictures_missing", hint="Set PICTURES to their ids, or all."
        )
    return named


def download(api: Api, ids: Sequence[str], folder: Path) -> Path:
    """One PNG, or a zip of many; the browser is given it where there is one."""
    files = [save(api.read(f"/api/assets/{each}/file"), folder / f"{each}.png") for each in ids]
    path = files[0] if len(files) == 1 else _zipped(files, folder / "pictures.zip")
    if not host.hand_over(path):
        Live().text(f"Saved as {path}")
    return path


def delete(api: Api, ids: Sequence[str]) -> None:
    for each in ids:
        api.delete(f"/api/assets/{each}")
    Live().text(f"{len(ids)} put aside. Each comes back by POST /api/assets/ID/restore, for some days.")


def _zipped(files: Sequence[Path], path: Path) -> Path:
    arriving = path.with_suffix(".part")
    with zipfile.ZipFile(arriving, "w") as archive:
        for file in files:
            archive.write(file, file.name)
    return arriving.replace(path)


def _words(asset: Mapping[str, Any]) -> str:
    prompt = str(asset["prompt"])
    short = prompt if len(prompt) <= PROMPT_SHOWN else prompt[:PROMPT_SHOWN] + "…"
    return f"{asset['id']}  {short}"
