"""Who may use a ComfyUI, and when another one takes its place."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from api.comfy import instance
from api.comfy.client import ComfyClient
from api.comfy.errors import EngineDied
from api.comfy.server import ComfyServer
from api.domain.engine import ComfyInstall, InstalledBase
from tests.comfy import small_comfyui
from tests.comfy.small_comfyui import TAKEN_BYTES
from tests.waiting import until


class Sharing:
    """A server whose ComfyUI starts at once, and its users."""

    def __init__(self, folder: Path, max_memory_bytes: int | None = None) -> None:
        source = folder / "source"
        source.mkdir(parents=True)
        (source / "main.py").symlink_to(str(small_comfyui.__file__))
        install = ComfyInstall(source, Path(sys.executable), "0", gpu=False)
        self.base = InstalledBase("tiny", "flux", folder, folder, "unet", "clip_l", "t5xxl", "vae")
        self.server = ComfyServer(install, folder / "base", folder / "comfyui.log", max_memory_bytes)
        self.inside: list[str] = []
        self.leave = {name: asyncio.Event() for name in ("a", "b", "c")}

    async def visit(self, name: str, *, alone: bool = False, light: bool = False) -> int | None:
        """Use it until told to leave; the pid of the one that was used."""
        async with self.server.use(self.base, alone=alone, light=light):
            self.inside.append(name)
            pid = self.server.pid
            await self.leave[name].wait()
            self.inside.remove(name)
        return pid

    async def take_memory(self, client: ComfyClient) -> None:
        pid = self.server.pid
        await client.object_info()
        assert pid is not None
        assert psutil.Process(pid).memory_info().rss > TAKEN_BYTES


async def starting(server: ComfyServer) -> psutil.Process:
    """The child of a start that goes on."""
    us = psutil.Process()
    before = set(us.children())
    await until(lambda: set(us.children()) - before)
    (child,) = set(us.children()) - before
    assert not server.running
    return child


@pytest.fixture
async def sharing(tmp_path: Path):
    opened = Sharing(tmp_path)
    yield opened
    await opened.server.stop()


async def test_who_wants_to_be_alone_waits_until_nobody_uses_it_and_the_next_ones_wait_for_him(sharing: Sharing):
    first = asyncio.create_task(sharing.visit("a"))
    await until(lambda: sharing.inside == ["a"])
    alone = asyncio.create_task(sharing.visit("b", alone=True))
    await until(lambda: sharing.server._changing.locked())
    after = asyncio.create_task(sharing.visit("c"))
    sharing.leave["a"].set()
    await until(lambda: sharing.inside == ["b"])
    await first
    sharing.leave["b"].set()
    await until(lambda: sharing.inside == ["c"])
    sharing.leave["c"].set()
    assert await alone == await after == await first, "one ComfyUI served them all"


async def test_a_light_one_takes_the_place_of_the_usual_one_and_gives_it_back(sharing: Sharing):
    for event in sharing.leave.values():
        event.set()
    usual = await sharing.visit("a")
    light = await sharing.visit("b", alone=True, light=True)
    assert usual != light
    assert await sharing.visit("c") not in (usual, light)


async def test_a_start_goes_on_for_the_next_one_when_who_wanted_it_has_gone(sharing: Sharing):
    sharing.leave["b"].set()
    first = asyncio.create_task(sharing.visit("a"))
    child = await starting(sharing.server)
    first.cancel()
    await asyncio.wait({first})
    assert await sharing.visit("b") == child.pid
    assert sharing.inside == []


async def test_a_stop_ends_a_start_that_nobody_waits_for(sharing: Sharing):
    first = asyncio.create_task(sharing.visit("a"))
    child = await starting(sharing.server)
    first.cancel()
    await asyncio.wait({first})
    await sharing.server.stop()
    assert not child.is_running()
    assert sharing.server.pid is None


async def test_memory_that_is_given_back_is_enough_for_who_wants_to_be_alone(sharing: Sharing, monkeypatch):
    monkeypatch.setattr(instance, "_KEPT_BYTES", TAKEN_BYTES // 2)
    async with sharing.server.use(sharing.base) as client:
        await sharing.take_memory(client)
        pid = sharing.server.pid
    async with sharing.server.use(sharing.base, alone=True):
        assert sharing.server.pid == pid


async def test_a_comfyui_that_keeps_its_memory_is_replaced_for_who_wants_to_be_alone(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(instance, "_KEPT_BYTES", TAKEN_BYTES // 2)
    monkeypatch.setattr(instance, "_RELIEF_SECONDS", 0.2)
    sharing = Sharing(tmp_path / "keeps")
    async with sharing.server.use(sharing.base) as client:
        await sharing.take_memory(client)
        pid = sharing.server.pid
    async with sharing.server.use(sharing.base, alone=True):
        assert sharing.server.pid not in (None, pid)
    await sharing.server.stop()


async def test_a_comfyui_that_has_grown_ends_when_nobody_uses_it_any_more(tmp_path: Path):
    sharing = Sharing(tmp_path, max_memory_bytes=TAKEN_BYTES)
    async with sharing.server.use(sharing.base) as client:
        small = sharing.server.pid
    async with sharing.server.use(sharing.base) as client:
        assert sharing.server.pid == small
        await sharing.take_memory(client)
    assert not sharing.server.running
    assert not psutil.pid_exists(small or 0)


async def test_a_comfyui_that_has_grown_takes_nobody_new_and_nobody_loses_it(tmp_path: Path):
    sharing = Sharing(tmp_path, max_memory_bytes=TAKEN_BYTES)
    staying = asyncio.create_task(sharing.visit("a"))
    await until(lambda: sharing.inside == ["a"])
    async with sharing.server.use(sharing.base) as client:
        await sharing.take_memory(client)
    coming = asyncio.create_task(sharing.visit("b"))
    await until(lambda: sharing.server._changing.locked())
    assert sharing.server.running
    assert sharing.inside == ["a"]
    sharing.leave["a"].set()
    await until(lambda: sharing.inside == ["b"])
    sharing.leave["b"].set()
    assert await staying != await coming
    await sharing.server.stop()


async def test_a_comfyui_that_is_killed_most_likely_ran_out_of_memory(sharing: Sharing):
    async def killed_by_the_kernel() -> None:
        async with sharing.server.use(sharing.base) as client:
            os.kill(sharing.server.pid or 0, signal.SIGKILL)
            await client.wait("p")

    with pytest.raises(EngineDied) as caught:
        await killed_by_the_kernel()
    assert caught.value.code == "out_of_memory"
    assert "ran out of memory" in caught.value.detail
    assert "Lower width and height" in (caught.value.hint or "")


async def test_a_comfyui_that_we_have_ended_ourselves_did_not_run_out_of_memory(sharing: Sharing, monkeypatch):
    monkeypatch.setattr("api.comfy.process._GRACE_SECONDS", 0.0)

    async def killed_by_us() -> None:
        async with sharing.server.use(sharing.base) as client:
            await sharing.server.kill()
            await client.wait("p")

    with pytest.raises(EngineDied) as caught:
        await killed_by_us()
    assert caught.value.code == "comfyui_died"
