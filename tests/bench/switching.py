"""How often the model changes when jobs of several LoRAs are asked for in no order, and how soon a LoRA is of use."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from api.client import Api
from api.selftest.dataset import make_dataset
from tests.bench.figures import Fact, Result, Series
from tests.bench.stand import PROMPT, SMALL, Stand, service
from tests.service import tiny_lora

LORAS = 5
JOBS, QUICK_JOBS = 100, 10
SWITCHES = 10
TO_USE_SECONDS = 5
TRAINING = {
    "base_model": "flux-tiny",
    "steps": 4,
    "rank": 4,
    "alpha": 4,
    "resolution": 64,
    "checkpoint_interval": 2,
}


async def run(folder: Path, quick: bool) -> Result:
    jobs = QUICK_JOBS if quick else JOBS
    async with service(folder) as stand:
        models = [await _import(stand, number) for number in range(LORAS)]
        order = [model for model in models for _ in range(jobs // LORAS)]
        random.Random(7).shuffle(order)
        waited, drawn = await _draw(stand, order)
        used = await _train_and_use(stand, folder / "photos")
        began = time.perf_counter()
        await stand.draw()
        plain = time.perf_counter() - began
    facts = (
        Fact("switches, first come first served", "", switches(order)),
        Fact("switches, as drawn", "", switches(drawn), at_most=SWITCHES),
        Fact("LoRA written until its first picture", "s", used),
        Fact("above a picture itself", "s", used - plain, at_most=TO_USE_SECONDS),
    )
    return Result((Series("waited", "s", tuple(waited)),), facts, {**SMALL, "jobs": len(order), "loras": LORAS})


def switches(models: Sequence[str]) -> int:
    """How often the model is patched anew, the first time included."""
    return 1 + sum(one != other for one, other in pairwise(models))


async def _import(stand: Stand, number: int) -> str:
    files = {"files": (f"{number}.safetensors", tiny_lora(rank=number + 1))}
    answer = await stand.http.post("/api/models/import", data={"name": f"lora {number}"}, files=files)
    answer.raise_for_status()
    return str(answer.json()["id"])


async def _draw(stand: Stand, models: Sequence[str]) -> tuple[list[float], list[str]]:
    """How long each waited for its turn, and the models in the order in which they were drawn."""
    await stand.warm_up()
    started = [
        await stand.post("/api/generate/image", {**SMALL, "prompt": PROMPT, "seed": stand.seed(), "model_id": model})
        for model in models
    ]
    jobs = []
    for each in started:
        await stand.end_of(each["asset_id"])
        jobs.append((await stand.http.get(f"/api/jobs/{each['task_id']}")).json())
    began = [datetime.fromisoformat(job["started_at"]) for job in jobs]
    asked = [datetime.fromisoformat(job["created_at"]) for job in jobs]
    waited = [(start - ask).total_seconds() for start, ask in zip(began, asked, strict=True)]
    return waited, [model for _, model in sorted(zip(began, models, strict=True))]


async def _train_and_use(stand: Stand, photos: Path) -> float:
    """Seconds from the trainer's last write to its LoRA until a picture with it is in hand."""
    make_dataset(photos)
    with Api(str(stand.http.base_url)) as api:
        dataset = await asyncio.to_thread(api.upload_dataset, photos, {"name": "star"})
    session = await stand.post("/api/training/flux", {"dataset_id": dataset["id"], **TRAINING})
    await stand.end_of(session["id"])
    (model,) = [
        model
        for model in (await stand.http.get("/api/models/")).json()["items"]
        if model["training_session_id"] == session["id"]
    ]
    await stand.draw(model_id=model["id"])
    return time.time() - _lora_written(stand.up.data_dir)


def _lora_written(data_dir: Path) -> float:
    """When the one trainer said that it was through, which it does right after its last write."""
    (journal,) = (data_dir / "training").glob("*/run/events.jsonl")
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    (said,) = [
        float(record["time"])
        for record in records
        if record["message"].get("stage", {}).get("key") == "training_complete"
    ]
    return said
