"""What the campaign's judge is told is what is in the database, in the storage and on the disk."""

import hashlib
import json
from collections.abc import AsyncIterator
from io import BytesIO
from uuid import UUID

import pytest
import sqlalchemy as sa
from PIL import Image, PngImagePlugin
from sqlmodel import col

from api.models import GeneratedAsset
from api.settings import Settings
from tests.faults.campaign.facts import Facts, collect
from tests.faults.campaign.judge import judge
from tests.faults.campaign.ledger import Entry
from tests.service import Service, serving, with_values

PROMPT = "a red circle, picture-1"


@pytest.fixture
async def service(settings: Settings, valkey_url: str) -> AsyncIterator[Service]:
    async with serving(with_values(settings, redis_url=valkey_url)) as opened:
        yield opened


@pytest.fixture
async def entries(service: Service) -> list[Entry]:
    """The ledger of a dataset, a LoRA and a finished picture."""
    dataset, model = await service.dataset(), await service.model()
    picture = await service.pictures(prompt=PROMPT, seed=7, base_model="flux-tiny")
    await finish(service, picture["asset_id"], drawn(PROMPT, 7))
    made = {"dataset": dataset["id"], "model": model["id"], "image": picture["asset_id"]}
    return [Entry(0, "accepted", {"key": kind, "kind": kind, "ids": [one]}) for kind, one in made.items()]


def drawn(prompt: str, seed: int) -> bytes:
    """A picture as ComfyUI saves it."""
    graph = {
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt}},
        "9": {"class_type": "KSampler", "inputs": {"seed": seed}},
    }
    about = PngImagePlugin.PngInfo()
    about.add_text("prompt", json.dumps(graph))
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=about)
    return file.getvalue()


async def finish(service: Service, asset_id: str, data: bytes) -> None:
    key = f"assets/{asset_id}.png"
    put(service, key, data)
    lease = await service.claim()
    async with service.resources.sessions.begin() as session:
        output = {"sha256": hashlib.sha256(data).hexdigest()}
        values = {"storage_path": key, "generation_config": {"seed": 7, "output": output}}
        await session.execute(
            sa.update(GeneratedAsset).where(col(GeneratedAsset.id) == UUID(asset_id)).values(**values)
        )
    await service.complete(lease)


def put(service: Service, key: str, data: bytes) -> None:
    path = service.settings.masuka_data_dir / "storage" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def wrongs(service: Service, entries: list[Entry]) -> set[str]:
    facts: Facts = await collect(service.settings, ())
    return {name for name, found in judge(entries, facts).wrongs.items() if found}


async def test_what_went_well_is_sound(service: Service, entries: list[Entry]) -> None:
    assert await wrongs(service, entries) == set()
    facts = await collect(service.settings, ())
    assert sorted(key.partition("/")[0] for key in facts.files) == ["assets", "datasets", "models"]


@pytest.mark.parametrize("damaged", [drawn(PROMPT, 8), drawn("a blue square, picture-2", 7), drawn(PROMPT, 7)[:-20]])
async def test_a_picture_that_is_not_that_of_its_row_is_found(
    service: Service, entries: list[Entry], damaged: bytes
) -> None:
    asset_id = entries[-1].about["ids"][0]
    put(service, f"assets/{asset_id}.png", damaged)
    async with service.resources.sessions.begin() as session:  # even when the hash is right
        output = {"sha256": hashlib.sha256(damaged).hexdigest()}
        await session.execute(sa.update(GeneratedAsset).values(generation_config={"seed": 7, "output": output}))
    assert await wrongs(service, entries) == {"mislabelled"}


async def test_what_nobody_names_is_found(service: Service, entries: list[Entry]) -> None:
    put(service, "models/nobody-12345678.safetensors", b"?")
    assert await wrongs(service, entries) == {"files without rows"}


async def test_what_is_half_written_is_found(service: Service, entries: list[Entry]) -> None:
    folder = service.settings.masuka_data_dir / "tmp" / "somebody"
    folder.mkdir(parents=True)
    (folder / "picture.png").write_bytes(b"?")
    assert await wrongs(service, entries) == {"files without rows"}


async def test_a_file_that_is_gone_is_found(service: Service, entries: list[Entry]) -> None:
    (path,) = (service.settings.masuka_data_dir / "storage" / "models").rglob("*.safetensors")
    path.unlink()
    assert await wrongs(service, entries) == {"rows without files"}


async def test_a_row_that_nobody_asked_for_is_found(service: Service, entries: list[Entry]) -> None:
    await service.pictures(prompt="another", base_model="flux-tiny")
    assert await wrongs(service, entries) == {"duplicated", "stuck"}
