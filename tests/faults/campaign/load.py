"""What users do meanwhile: pictures, cancels, and now and then a training."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.campaign.client import Client
from tests.faults.campaign.ledger import Ledger
from tests.faults.campaign.recovery import Sample
from tests.service import tiny_lora
from tests.waiting import FOR_EVER, until

ENDED = frozenset({"completed", "failed", "cancelled"})
POLL_SECONDS = 0.4
CLIENTS = 3
"""Two pictures fill the GPU, the third waits."""
CANCELLED_SHARE = 0.1
LORA_SHARE = 0.3
TWINS_SHARE = 0.1
SLOW_SHARE = 0.2
TRAINING = {
    "base_model": "flux-tiny",
    "steps": 12,
    "rank": 4,
    "alpha": 4,
    "resolution": 64,
    "learning_rate": 1e-3,
    "checkpoint_interval": 4,
}


@dataclass
class Load:
    """Runs until it is told to stop, and then until all that it asked for has ended."""

    client: Client
    ledger: Ledger
    chance: random.Random
    samples: list[Sample] = field(default_factory=list)
    training_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    waiting: set[str] = field(default_factory=set)
    """Ids of assets and sessions whose end has not been seen."""
    _dataset_id: str = ""
    _model_id: str = ""
    _accepted_ids: dict[str, list[str]] = field(default_factory=dict)
    """By key."""

    async def prepare(self, photos: Path) -> None:
        """A dataset and a LoRA, under the same keys in every run of the same campaign."""
        files = [("files", (path.name, path.read_bytes())) for path in sorted(photos.iterdir())]
        dataset = await self._ask("dataset", "dataset", "/api/datasets/", data={"name": "shapes"}, files=files)
        form = {"name": "known", "base_model": "flux-tiny"}
        lora = {"file": ("known.safetensors", tiny_lora())}
        model = await self._ask("model", "model", "/api/models/import", data=form, files=lora)
        assert dataset is not None
        assert model is not None
        self._dataset_id, self._model_id = dataset["id"], model["id"]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_up_again())
            group.create_task(self._trainings())
            for _ in range(CLIENTS):
                group.create_task(self._pictures())

    async def _take_up_again(self) -> None:
        """What an earlier run of this campaign asked for and did not see the end of, under the same keys."""
        ended = {entry.about["id"] for entry in self.ledger.of("ended")}
        accepted = {entry.about["key"]: entry for entry in self.ledger.of("accepted")}
        async with asyncio.TaskGroup() as group:
            for entry in self.ledger.of("asked"):
                key, kind = entry.about["key"], entry.about["kind"]
                if kind not in PATHS:
                    continue
                if key not in accepted:
                    group.create_task(self._submit(key, kind, entry.about["body"]))
                elif left := [one for one in accepted[key].about["ids"] if one not in ended]:
                    group.create_task(self._follow_all(kind, left, accepted[key].time))

    # ---- pictures ----------------------------------------------------------------------------------------------------

    async def _pictures(self) -> None:
        while not self.stopped:
            key = self._new_key("picture")
            body = self._picture(key)
            cancel_after = self.chance.uniform(0, 2) if self.chance.random() < CANCELLED_SHARE else None
            async with asyncio.TaskGroup() as group:
                answer = group.create_task(self._submit(key, "image", body))
                if cancel_after is not None:
                    group.create_task(self._cancel(answer, key, cancel_after))

    def _picture(self, key: str) -> dict[str, Any]:
        """Its prompt and its seed are its own, so that its file can be told from every other."""
        body: dict[str, Any] = {
            "prompt": f"a red circle on a blue background, {key}",
            "base_model": "flux-tiny",
            "width": 64,
            "height": 64,
            "seed": self.chance.randrange(2**50),
            "num_inference_steps": self.chance.randint(10, 40)
            if self.chance.random() < SLOW_SHARE
            else self.chance.randint(2, 4),
        }
        if self.chance.random() < LORA_SHARE:
            body["model_id"] = self._model_id
        if self.chance.random() < TWINS_SHARE:
            body["num_images"] = 2
        return body

    async def _cancel(self, answer: "asyncio.Task[list[str]]", key: str, seconds: float) -> None:
        """Cancel the first of a request's pictures, whatever it does by then."""
        await until(lambda: answer.done() or key in self._accepted_ids, FOR_EVER)
        if key not in self._accepted_ids:
            return
        await asyncio.sleep(seconds)
        picture = self._accepted_ids[key][0]
        self.ledger.note("cancel_asked", id=picture)
        response = await self.client.post(f"{key}-cancel", f"/api/assets/{picture}/cancel")
        self.ledger.note("cancel_answered", id=picture, status=response.status_code)

    # ---- trainings ---------------------------------------------------------------------------------------------------

    async def _trainings(self) -> None:
        while not self.stopped:
            if self.training_wanted.is_set():
                key = self._new_key("training")
                await self._submit(key, "training", {**TRAINING, "name": key, "dataset_id": self._dataset_id})
                self.training_wanted.clear()
            await asyncio.sleep(POLL_SECONDS)

    # ---- asking and following ----------------------------------------------------------------------------------------

    def _new_key(self, what: str) -> str:
        return f"{what}-{self.chance.getrandbits(48):012x}"

    async def _ask(self, key: str, kind: str, path: str, **content: Any) -> dict[str, Any] | None:
        """The accepted request's answer, on the ledger; None for one that was refused."""
        self.ledger.note("asked", key=key, kind=kind, body=content.get("json"))
        response = await self.client.post(key, path, **content)
        if response.is_error:
            self.ledger.note("refused", key=key, status=response.status_code, body=response.text[:500])
            return None
        answer: dict[str, Any] = response.json()
        ids = answer.get("asset_ids") or [answer["id"]]
        self.ledger.note("accepted", key=key, kind=kind, ids=ids)
        self._accepted_ids[key] = ids
        return answer

    async def _submit(self, key: str, kind: str, body: dict[str, Any]) -> list[str]:
        """Ask and follow to the end; the ids."""
        if await self._ask(key, kind, PATHS[kind][0], json=body) is None:
            return []
        ids = self._accepted_ids[key]
        await self._follow_all(kind, ids, time.time())
        return ids

    async def _follow_all(self, kind: str, ids: list[str], accepted: float) -> None:
        await asyncio.gather(*(self._follow(kind, one, accepted) for one in ids))

    async def _follow(self, kind: str, one: str, accepted: float) -> None:
        self.waiting.add(one)
        while True:
            response = await self.client.get(f"{PATHS[kind][1]}{one}")
            if response.is_error:  # the judge finds it missing, too
                self.ledger.note("not_found", id=one, status=response.status_code, body=response.text[:500])
                self.waiting.discard(one)
                return
            row = response.json()
            job = row.get("job") or {"attempt": 0, "progress": {}}
            stand = (job["attempt"], job["progress"].get("stage", ""), job["progress"].get("step", 0))
            self.samples.append(Sample(time.time(), one, kind, accepted, row["status"], stand))
            if row["status"] in ENDED:
                self.waiting.discard(one)
                self.ledger.note("ended", id=one, status=row["status"])
                return
            await asyncio.sleep(POLL_SECONDS)


PATHS = {"image": ("/api/generate/image", "/api/assets/"), "training": ("/api/training/flux", "/api/training/")}
"""Where each kind is asked for, and where it is looked at."""
