"""Cancels against every moment of a picture in the real ComfyUI: exactly the cancelled ones stop."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from api.comfy.history import Queue
from api.domain.job import Kind
from api.domain.job import Queue as JobQueue
from api.domain.progress import Snapshot
from api.progress import Progress
from api.settings import Settings
from api.tasks import attempt as attempts
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import generate
from api.tasks.gpu import open_gpu
from tests.job_rows import nothing_waits
from tests.service import Service, serving, with_values
from tests.tasks.stage import on_duty
from tests.waiting import until_async

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]
RACES = 60
MOMENTS = ("spared", "pending", "starting", "queued", "sampling", "finish")
AT_ONCE = 6
STEPS = 4


@dataclass
class Race:
    """One picture and the cancel that is meant for it."""

    moment: str
    delay: float
    job_id: str = ""
    asset_id: str = ""
    asked: asyncio.Task[int] | None = None


@dataclass
class Races:
    """Cancels a picture over HTTP when the moment that its race names is told of it."""

    service: Service
    of: dict[UUID, Race] = field(default_factory=dict)
    early: set[UUID] = field(default_factory=set)
    """Jobs that began before the answer to their request was here."""

    def told(self, job_id: UUID, snapshot: Snapshot) -> None:
        race = self.of.get(job_id)
        if race is None:
            self.early.add(job_id)
            return
        if race.moment == "spared":
            return
        ending = snapshot.stage == "storing" or (snapshot.stage == "sampling" and snapshot.step >= STEPS)
        if race.moment == snapshot.stage or (ending and race.moment in ("sampling", "finish")):
            self.cancel(race)

    def cancel(self, race: Race) -> None:
        if race.asked is None:
            race.asked = asyncio.create_task(self._ask(race))

    async def _ask(self, race: Race) -> int:
        await asyncio.sleep(race.delay)
        return (await self.service.client.post(f"/api/jobs/{race.job_id}/cancel")).status_code

    async def begin(self, race: Race, seed: int) -> None:
        wishes = {"width": 64, "height": 64, "num_inference_steps": STEPS, "seed": seed, "base_model": "flux-tiny"}
        answer = await self.service.pictures(**wishes)
        race.job_id, race.asset_id = answer["task_id"], answer["asset_id"]
        self.of[UUID(race.job_id)] = race
        if race.moment == "pending" or (race.moment == "starting" and UUID(race.job_id) in self.early):
            self.cancel(race)

    async def job(self, race: Race) -> dict[str, Any]:
        return dict((await self.service.client.get(f"/api/jobs/{race.job_id}")).json())

    async def whole_picture(self, race: Race) -> bytes:
        data = (await self.service.client.get(f"/api/assets/{race.asset_id}/file")).content
        with Image.open(BytesIO(data)) as image:
            image.load()
            assert image.size == (64, 64)
            return image.tobytes()

    def stored(self) -> list[Path]:
        return list((self.service.settings.masuka_data_dir / "storage" / "assets").iterdir())


class Telling(Progress):
    """Also tells the races of all that is published."""

    def __init__(self, real: Progress, races: Races) -> None:
        self.real, self.races = real, races

    async def publish(self, job_id: UUID, snapshot: Snapshot) -> None:
        self.races.told(job_id, snapshot)
        await self.real.publish(job_id, snapshot)


@pytest.fixture
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PUBLISH_INTERVAL_SECONDS", 0.0)


@pytest.fixture
async def races(settings: Settings, valkey_url: str, _every_step_is_told: None) -> AsyncIterator[Races]:
    """The API, and a worker with a ComfyUI of its own."""
    async with serving(with_values(settings, redis_url=valkey_url)) as service:
        races = Races(service)
        resources = replace(service.resources, progress=Telling(service.resources.progress, races))
        async with (
            open_gpu(resources) as kit,
            on_duty(Dispatcher(resources, JobQueue.GPU, {Kind.IMAGE: partial(generate, kit)})),
        ):
            yield races
            async with kit.use_comfy(kit.base("flux-tiny")) as client:
                assert await client.queue() == Queue((), ())


async def test_exactly_the_cancelled_pictures_stop_whatever_they_were_at(races: Races) -> None:
    chance = random.Random(11)
    plan = [Race(MOMENTS[n % len(MOMENTS)], chance.choice((0, 0, chance.uniform(0, 0.05)))) for n in range(RACES)]
    chance.shuffle(plan)
    for n in range(0, RACES, AT_ONCE):
        await asyncio.gather(*(races.begin(race, n + i) for i, race in enumerate(plan[n : n + AT_ONCE])))
        await until_async(partial(nothing_waits, races.service.resources.sessions), 180)  # ComfyUI starts

    ends: Counter[tuple[str, str]] = Counter()
    pictures: set[bytes] = set()
    for race in plan:
        job = await races.job(race)
        answer = await race.asked if race.asked else None
        ends[race.moment, job["status"]] += 1
        assert (job["attempt"], job["error_code"]) == (1, None)  # no cancel has stopped somebody else's prompt
        if job["status"] == "completed":
            pictures.add(await races.whole_picture(race))
            assert (race.asked is None) == (race.moment == "spared")
            assert answer in (None, 200, 409)
        else:
            assert (job["status"], answer) == ("cancelled", 200)
    assert ends["spared", "completed"] == RACES // len(MOMENTS)
    assert all(ends[moment, "cancelled"] for moment in ("pending", "starting", "queued", "sampling")), ends
    completed = sum(count for (_, status), count in ends.items() if status == "completed")
    assert len(pictures) == completed == len(races.stored())  # nobody's picture is another's, and no file is too many
