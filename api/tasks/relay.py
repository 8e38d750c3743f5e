"""Carries how far ComfyUI is to the job's snapshot, and half-finished pictures to whoever looks."""

import asyncio

from api.comfy.messages import Preview as PreviewFrame
from api.comfy.messages import Progress, Step
from api.previews import Preview, Throttle
from api.services.jobs import LeaseLostError
from api.tasks.attempt import Attempt

JPEG = "image/jpeg"
SAMPLED_PERCENT = 95.0
"""Sampling fills the bar up to here."""


class Relay:
    """Takes steps from the websocket's callback, which must not block, to the snapshot."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._latest: Progress | None = None
        self._heard = asyncio.Event()
        self._seen = Throttle()

    def hear(self, step: Step) -> None:
        if isinstance(step, Progress):
            self._latest = step
            self._heard.set()

    def see(self, frame: PreviewFrame) -> None:
        if frame.image_type == JPEG:
            self._seen.put(Preview(self._attempt.job_id, frame.image))

    async def show(self) -> None:
        while True:
            await self._attempt.resources.previews.offer(await self._seen.next())

    async def run(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            if self._latest is None:
                continue
            step, total = self._latest.value, self._latest.maximum
            try:
                await self._attempt.progress(
                    stage="sampling",
                    step=step,
                    total_steps=total,
                    progress=SAMPLED_PERCENT * step / max(total, 1),
                    message=f"Step {step} of {total}",
                )
            except LeaseLostError:
                return  # the heartbeat stops the attempt
