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
from api.domain.job import AFFINITY_MAX_WAIT_SECONDS
from api.selftest.dataset import make_dataset
from tests.bench.figures import Fact, Result, Series
from tests.bench.stand import PROMPT, SMALL, Stand, service
from tests.service import tiny_lora

LORAS = 5
UUID_LENGTH = 36
"""A prompt's id begins with its job's."""
JOBS, QUICK_JOBS = 100, 10
USES, QUICK_USES = 3, 1
SWITCHES = 10
TO_USE_SECONDS = 5
USED = ("LoRA written until its first picture", "the next picture with it")
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
        uses = [
            await _train_and_use(stand, folder / f"photos-{number}") for number in range(QUICK_USES if quick else USES)
        ]
    used, plain = (Series(name, "s", times) for name, times in zip(USED, zip(*uses, strict=True), strict=True))
    facts = (
        Fact("switches if it were first come first served", "", switches(order)),
        Fact("switches, as drawn", "", switches(drawn), at_most=SWITCHES),
        Fact("longest wait", "s", max(waited), at_most=AFFINITY_MAX_WAIT_SECONDS),
        Fact("above a picture itself, p50", "s", used.quantile(0.5) - plain.quantile(0.5), at_most=TO_USE_SECONDS),
    )
    about = {**SMALL, "jobs": len(order), "loras": LORAS}
    return Result((Series("waited", "s", tuple(waited)), used, plain), facts, about)


def switches(models: Sequence[str]) -> int:
    """How often the model is patched anew, the first time included."""
    return 1 + sum(one != other for one, other in pairwise(models))


async def _import(stand: Stand, number: int) -> str:
    files = {"files": (f"{number}.safetensors", tiny_lora(rank=number + 1))}
    answer = await stand.http.post("/api/models/import", data={"name": f"lora {number}"}, files=files)
    answer.raise_for_status()
    return str(answer.json()["id"])


async def _draw(stand: Stand, models: Sequence[str]) -> tuple[list[float], list[str]]:
    """How long each waited for its turn, and the models in the order in which ComfyUI drew them."""
    await stand.draw_patiently()
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
    model_of = {each["task_id"]: model for each, model in zip(started, models, strict=True)}
    begun = [event.prompt_id[:UUID_LENGTH] for event in stand.events() if event.event == "execution_start"]
    drawn = [model_of[job] for job in begun if job in model_of]
    assert sorted(drawn) == sorted(models), "ComfyUI began each once"
    return waited, drawn


async def _train_and_use(stand: Stand, photos: Path) -> tuple[float, float]:
    """Seconds from the trainer's last write to its LoRA until a picture with it is in hand; of another one after it."""
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
    until_used = time.time() - _lora_written(stand.up.data_dir / "training" / session["id"])
    began = time.perf_counter()
    await stand.draw(model_id=model["id"])
    return until_used, time.perf_counter() - began


def _lora_written(workdir: Path) -> float:
    """When the trainer said that it was through, which it does right after its last write."""
    journal = workdir / "run" / "events.jsonl"
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    (said,) = [
        float(record["time"])
        for record in records
        if record["message"].get("stage", {}).get("key") == "training_complete"
    ]
    return said
