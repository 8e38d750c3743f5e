"""How the memory that engines share is measured, and proved to be back."""

import asyncio

import pytest

from api.domain.gpu_gate import Memory
from api.engines import gpu
from api.errors import RetryableError
from api.tasks import gpu_memory


@pytest.fixture
def free_vram(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What nvidia-smi says, time after time; the last for ever."""
    said: list[float | None] = []
    monkeypatch.setattr(gpu, "free_vram_gb", lambda: said.pop(0) if len(said) > 1 else said[0])
    monkeypatch.setattr(gpu_memory, "POLL_SECONDS", 0.001)
    return said


async def test_memory_is_back_when_the_driver_says_so(free_vram: list[float | None]) -> None:
    free_vram += [2.0, 2.0, 30.0]

    await gpu_memory.require_back(Memory(free_gb=2, pictures_gb=30))

    assert free_vram == [30.0]


async def test_memory_that_does_not_come_back_is_another_attempts_concern(
    free_vram: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_memory, "BACK_SECONDS", 0.01)
    free_vram.append(20.0)

    with pytest.raises(RetryableError) as caught:
        await gpu_memory.require_back(Memory(free_gb=2, pictures_gb=30))

    assert caught.value.code == "gpu_memory_not_freed"


async def test_without_a_gpu_the_machines_memory_is_shared(free_vram: list[float | None]) -> None:
    free_vram.append(None)
    process = await asyncio.create_subprocess_exec("sleep", "60")

    found = await gpu_memory.measure(process.pid, None)
    process.kill()
    await process.wait()

    assert 0 < found.pictures_gb < 0.1 < found.free_gb
    await gpu_memory.require_back(found)
    assert (await gpu_memory.measure(process.pid, None)).pictures_gb == 0
