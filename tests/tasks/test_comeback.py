"""ComfyUI comes back once there is memory for it, and not while something else needs that first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from api.comfy.client import ComfyClient
from api.domain.engine import InstalledBase
from api.domain.gpu_gate import Memory
from api.errors import RetryableError
from api.tasks import comeback
from api.tasks.comeback import Comeback
from tests.waiting import until

BASE = InstalledBase("flux-tiny", "flux", Path("/base"), Path("/models"), "unet", "clip", "t5", "vae")


class Gpu:
    """Measures what it is told, and notes what is started."""

    def __init__(self) -> None:
        self.free_gb = 0.0
        self.looks = 0
        self.started: list[str] = []
        self.fails = False

    async def memory(self) -> Memory:
        self.looks += 1
        return Memory(self.free_gb)

    @asynccontextmanager
    async def use(self, base: InstalledBase) -> AsyncIterator[ComfyClient]:
        self.started.append(base.name)
        if self.fails:
            raise RetryableError("It cannot start.", code="comfyui_start_failed")
        yield cast("ComfyClient", None)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    monkeypatch.setattr(comeback, "LOOK_SECONDS", 0.001)
    return Gpu()


async def test_it_waits_for_the_memory_that_the_trainer_still_holds(gpu: Gpu) -> None:
    back = Comeback(gpu.use, gpu.memory)
    back.owe()
    back.begin(BASE)
    await until(lambda: gpu.looks > 2)
    assert gpu.started == []

    gpu.free_gb = 8.0

    await until(lambda: gpu.started == ["flux-tiny"])


async def test_it_comes_once_for_each_time_it_gave_way(gpu: Gpu) -> None:
    gpu.free_gb = 8.0
    back = Comeback(gpu.use, gpu.memory)
    back.begin(BASE)
    back.owe()
    back.begin(BASE)
    back.begin(BASE)
    await until(lambda: gpu.started)
    assert gpu.started == ["flux-tiny"]


async def test_it_gives_way_to_whoever_comes_first_and_says_whether_it_was_owed(gpu: Gpu) -> None:
    back = Comeback(gpu.use, gpu.memory)
    assert not await back.give_up()
    back.owe()
    back.begin(BASE)
    await until(lambda: gpu.looks > 0)

    assert await back.give_up()

    gpu.free_gb = 8.0
    back.owe()
    assert await back.give_up()
    back.owe()
    back.begin(BASE)
    await until(lambda: gpu.started == ["flux-tiny"])
    assert not await back.give_up()


@pytest.mark.parametrize("trouble", ["memory", "start"])
async def test_one_that_cannot_come_is_left_to_the_first_picture(
    gpu: Gpu, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comeback, "PATIENCE_SECONDS", 0.01)
    gpu.fails = True
    gpu.free_gb = 0.0 if trouble == "memory" else 8.0
    back = Comeback(gpu.use, gpu.memory)
    back.owe()
    with capture_logs() as lines:
        back.begin(BASE)
        await until(lambda: [line["event"] for line in lines] == ["comfyui_not_back_after_training"])
    assert gpu.started == ([] if trouble == "memory" else ["flux-tiny"])
