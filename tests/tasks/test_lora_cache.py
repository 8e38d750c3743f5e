"""LoRAs come from the storage once, and are in ComfyUI's folder only when they are whole and the right ones."""

import asyncio
from pathlib import Path

import pytest

from api.errors import EngineError
from api.resources import Resources
from api.storage import StoredFile
from api.tasks.gpu import GpuKit, open_gpu
from api.tasks.lora_cache import LoraCache

KEY = "models/me-1a2b3c4d.safetensors"


@pytest.fixture
async def stored(resources: Resources, tmp_path: Path) -> StoredFile:
    path = tmp_path / "lora"
    path.write_bytes(b"weights" * 100_000)
    return await resources.storage.put_file(KEY, path)


def folder(resources: Resources) -> Path:
    return resources.settings.masuka_data_dir / "comfyui" / "models" / "loras"


def names(resources: Resources) -> set[str]:
    return {path.name for path in folder(resources).iterdir()}


async def copies(resources: Resources, stored: StoredFile, *names: str) -> list[str]:
    """The same content as LoRAs of several names; their keys."""
    keys = [f"models/{name}/{name}-1a2b3c4d.safetensors" for name in names]
    for key in keys:
        path = resources.storage.local_path(stored.key)
        assert path is not None
        await resources.storage.put_file(key, path)
    return keys


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


async def test_above_the_limit_the_loras_not_used_for_longest_go(resources: Resources, stored: StoredFile) -> None:
    cache = LoraCache(resources.storage, folder(resources), limit_bytes=2 * stored.size)
    keys = await copies(resources, stored, "a", "b", "c", "d")
    await cache.provide(keys[0], stored.sha256)
    await cache.provide(keys[1], stored.sha256)
    await cache.provide(keys[0], stored.sha256)
    await cache.provide(keys[2], stored.sha256)
    assert names(resources) == {"a-1a2b3c4d.safetensors", "c-1a2b3c4d.safetensors"}


async def test_a_lora_in_use_never_goes_nor_does_one_of_the_owner(resources: Resources, stored: StoredFile) -> None:
    cache = LoraCache(resources.storage, folder(resources), limit_bytes=1)
    keys = await copies(resources, stored, "a", "b", "c")
    folder(resources).mkdir(parents=True)
    (folder(resources) / "by-hand.safetensors").write_bytes(b"mine")
    with cache.in_use(keys[:1]), cache.in_use(keys[:2]):
        for key in keys[:2]:
            await cache.provide(key, stored.sha256)
        assert names(resources) == {"by-hand.safetensors", "a-1a2b3c4d.safetensors", "b-1a2b3c4d.safetensors"}
    await cache.provide(keys[2], stored.sha256)
    assert names(resources) == {"by-hand.safetensors", "c-1a2b3c4d.safetensors"}


async def test_what_a_killed_fetch_has_left_goes_when_the_worker_starts(resources: Resources) -> None:
    folder(resources).mkdir(parents=True)
    (folder(resources) / ".me-1a2b3c4d.safetensors.part").touch()
    async with open_gpu(resources):
        assert names(resources) == set()


async def test_a_lora_that_has_changed_never_gets_into_the_folder(resources: Resources, stored: StoredFile) -> None:
    with pytest.raises(EngineError) as caught:
        await GpuKit(resources).loras.provide(stored.key, "another")
    assert caught.value.code == "model_file_damaged"
    assert list(folder(resources).iterdir()) == []
