"""LoRAs come from the storage once, and are in ComfyUI's folder only when they are whole and the right ones."""

import asyncio
from pathlib import Path

import pytest

from api.errors import EngineError
from api.resources import Resources
from api.storage import StoredFile
from api.tasks.gpu import GpuKit

KEY = "models/me-1a2b3c4d.safetensors"


@pytest.fixture
async def stored(resources: Resources, tmp_path: Path) -> StoredFile:
    path = tmp_path / "lora"
    path.write_bytes(b"weights" * 100_000)
    return await resources.storage.put_file(KEY, path)


def folder(resources: Resources) -> Path:
    return resources.settings.masuka_data_dir / "comfyui" / "models" / "loras"


async def test_two_pictures_that_need_the_same_new_lora_at_once_both_get_it(
    resources: Resources, stored: StoredFile
) -> None:
    kit = GpuKit(resources)
    names = await asyncio.gather(*(kit.loras.provide(stored.key, stored.sha256) for _ in range(4)))
    assert set(names) == {"me-1a2b3c4d.safetensors"}
    assert [path.name for path in folder(resources).iterdir()] == names[:1]


async def test_a_lora_that_is_there_is_not_fetched_again(resources: Resources, stored: StoredFile) -> None:
    kit = GpuKit(resources)
    await kit.loras.provide(stored.key, stored.sha256)
    await resources.storage.delete(stored.key)
    assert await kit.loras.provide(stored.key, stored.sha256) == "me-1a2b3c4d.safetensors"


async def test_a_lora_whose_file_is_gone_is_told(resources: Resources) -> None:
    with pytest.raises(EngineError) as caught:
        await GpuKit(resources).loras.provide(KEY, "0")
    assert (caught.value.code, caught.value.value) == ("model_file_missing", KEY)


async def test_a_lora_that_has_changed_never_gets_into_the_folder(resources: Resources, stored: StoredFile) -> None:
    with pytest.raises(EngineError) as caught:
        await GpuKit(resources).loras.provide(stored.key, "another")
    assert caught.value.code == "model_file_damaged"
    assert list(folder(resources).iterdir()) == []
