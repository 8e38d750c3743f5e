"""A FLUX of real size on a GPU: what is added to a picture, what a change of LoRA costs, and how a training does.

Its weights are random and made here, so it needs no download, but 36 GB of disk. In the quick mode flux-tiny stands in
for it, on any machine, which says nothing of speed.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from api.client import Api
from api.engines import gpu
from api.selftest.dataset import make_dataset
from tests.bench import random_flux
from tests.bench.figures import Fact, Result, Series, compared
from tests.bench.stand import SMALL, Stand, engines_dir, service
from tests.bench.switching import TRAINING as SMALL_TRAINING
from tests.bench.turns import in_turns

PICTURE: Mapping[str, Any] = {"base_model": "flux-dev", "width": 1024, "height": 1024, "num_inference_steps": 20}
TRAINING: Mapping[str, Any] = {"base_model": "flux-dev", "steps": 60, "checkpoint_interval": 30, "resolution": 512}
COUNT, QUICK_COUNT = 20, 2
BYTES_PER_GIB = 1024**3


async def run(folder: Path, quick: bool) -> Result:
    if not quick and not gpu.detect():
        raise SystemExit("gpu: nvidia-smi knows no GPU here, so there is nothing to measure.")
    picture: Mapping[str, Any] = SMALL if quick else PICTURE
    training: Mapping[str, Any] = SMALL_TRAINING if quick else TRAINING
    count = QUICK_COUNT if quick else COUNT
    engines = engines_dir()
    if not quick:
        engines = folder / "engines"
        await asyncio.to_thread(random_flux.make, engines)
    async with service(folder, MASUKA_ENGINES_DIR=str(engines)) as stand:
        raw_seconds, our_seconds = await in_turns(stand, count, **picture)
        bare, ours = Series("raw", "s", raw_seconds), Series("masuka", "s", our_seconds)
        before = _free_gib()
        session_id, freed = await asyncio.to_thread(_train, str(stand.http.base_url), folder / "photos", training)
        pace: float = (await stand.http.get(f"/api/training/{session_id}/metrics")).json()["step_seconds"]
        loras = [await _promote(stand, session_id, training["checkpoint_interval"] * nth) for nth in (1, 2)]
        same, other = await _switch(stand, picture, loras, count)
    facts = [
        *compared("above raw", ours, bare),
        *compared("another LoRA than before", other, same),
        Fact("memory free before a training", "GiB", before),
        Fact("memory free when its trainer starts", "GiB", freed),
        Fact("training steps", "per s", 1 / pace),
    ]
    return Result((bare, ours, same, other), facts, {**picture, "pictures": count})


def _train(url: str, photos: Path, training: Mapping[str, Any]) -> tuple[str, float]:
    """Its session, and how much memory was free when ComfyUI had given back its own."""
    make_dataset(photos)
    freed: float | None = None
    with Api(url) as api:
        dataset = api.upload_dataset(photos, {"name": "star"})
        session = api.post("/api/training/flux", {"dataset_id": dataset["id"], **training})
        for told in api.follow(session["id"]):
            if freed is None and told["stage"] not in ("", "waiting", "starting", "preparing"):
                freed = _free_gib()
    assert told["status"] == "completed", told
    assert freed is not None, "no stage of the training was told while its trainer ran"
    return str(session["id"]), freed


async def _promote(stand: Stand, session_id: str, step: int) -> str:
    return str((await stand.post(f"/api/training/{session_id}/checkpoints/{step}/promote", {}))["id"])


async def _switch(stand: Stand, picture: Mapping[str, Any], loras: list[str], count: int) -> tuple[Series, Series]:
    """Seconds of a picture with the LoRA of the one before it, and with the other one, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    await stand.draw_patiently(**picture, model_id=loras[0])
    for turn in range(2 * count):
        began = time.perf_counter()
        await stand.draw(**picture, model_id=loras[(turn + 1) // 2 % 2])
        times[turn % 2].append(time.perf_counter() - began)
    return Series("LoRA as before", "s", tuple(times[0])), Series("another LoRA", "s", tuple(times[1]))


def _free_gib() -> float:
    """Of the GPU; of the machine where there is none."""
    free = gpu.free_vram_gb()
    return psutil.virtual_memory().available / BYTES_PER_GIB if free is None else free
