"""Does one fault to the service."""

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import httpx
import psutil

from tests.faults.campaign.outside import Outside
from tests.faults.campaign.plan import Action, Fault, Target
from tests.faults.campaign.stand import Stand

APPEAR_SECONDS = 120.0
"""How long a fault waits for its target, such as a ComfyUI that is being started."""
COMFY_FAULTS = {
    (Target.SOCKET, Action.DROP): "drop_sockets",
    (Target.SOCKET, Action.SILENCE): "silence_sockets",
    (Target.GPU_MEMORY, Action.EXHAUST): "out_of_memory",
}


@dataclass(frozen=True, slots=True)
class Injected:
    """Times in seconds since the epoch."""

    at: float
    over: float


async def inject(stand: Stand, outside: Mapping[Target, Outside], fault: Fault) -> Injected | None:
    """Do it, and return when it is over; None when its target was not there in time."""
    kind = fault.kind
    if (kind.target, kind.action) in COMFY_FAULTS:
        return await _ask_comfyui(stand, COMFY_FAULTS[kind.target, kind.action])
    if kind.target is Target.DISK:
        return await _fill_disk(stand, fault.lasts_seconds)
    if kind.target in outside:
        at = time.time()
        await outside[kind.target].suffer(kind.action, fault.lasts_seconds)
        return Injected(at, time.time())
    deadline = time.monotonic() + APPEAR_SECONDS
    while time.monotonic() < deadline:
        process = find(stand, kind.target)
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                return await _hit(process, fault)
        await asyncio.sleep(0.02)
    return None


def find(stand: Stand, target: Target) -> psutil.Process | None:
    """The process that is meant, if it is there now."""
    match target:
        case Target.SUPERVISOR:
            return stand.supervisor()
        case Target.COMFYUI:
            return stand.comfyui()
        case Target.TRAINER:
            return stand.trainer()
        case Target.RUNNER:
            return stand.runner()
        case _:
            return stand.child(target.value)


async def _hit(process: psutil.Process, fault: Fault) -> Injected:
    """Raises psutil.NoSuchProcess when it ended by itself before."""
    at = time.time()
    process.send_signal(signal.SIGKILL if fault.kind.action is Action.KILL else signal.SIGSTOP)
    if fault.kind.action is Action.FREEZE:
        await asyncio.sleep(fault.lasts_seconds)
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
    return Injected(at, time.time())


async def _fill_disk(stand: Stand, seconds: float) -> Injected:
    at = time.time()
    stand.disk_full.touch()
    await asyncio.sleep(seconds)
    stand.disk_full.unlink()
    return Injected(at, time.time())


async def _ask_comfyui(stand: Stand, fault: str) -> Injected | None:
    deadline = time.monotonic() + APPEAR_SECONDS
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        while time.monotonic() < deadline:
            url = stand.comfyui_url()
            if url is not None:
                with suppress(httpx.TransportError):
                    at = time.time()
                    (await http.post(f"{url}/masuka_fault/{fault}")).raise_for_status()
                    return Injected(at, at)
            await asyncio.sleep(0.05)
    return None
