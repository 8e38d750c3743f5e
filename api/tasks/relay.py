"""Carries how far ComfyUI is to the job's snapshot."""

import asyncio

from api.comfy.messages import Progress, Step
from api.services.jobs import LeaseLostError
from api.tasks.attempt import Attempt

SAMPLED_PERCENT = 95.0
"""Sampling fills the bar up to here."""


class Relay:
    """Takes steps from the websocket's callback, which must not block, to the snapshot."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._latest: Progress | None = None
        self._heard = asyncio.Event()

    def hear(self, step: Step) -> None:
        if isinstance(step, Progress):
            self._latest = step
            self._heard.set()

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
