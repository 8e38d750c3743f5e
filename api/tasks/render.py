"""One picture drawn by ComfyUI: followed to its end, fetched, and nothing of it left there."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog
from PIL import Image, UnidentifiedImageError

from api.comfy.client import ComfyClient
from api.comfy.errors import failure_error
from api.comfy.history import Outcome, OutcomeStatus, Output
from api.comfy.messages import Progress, Step
from api.comfy.server import ComfyServer
from api.domain.engine import InstalledBase
from api.domain.workflow import Graph
from api.errors import EngineError, RetryableError
from api.see_through import see_through
from api.services.jobs import LeaseLostError
from api.tasks.attempt import Attempt
from api.tasks.gpu import GpuKit

log = structlog.get_logger(__name__)

SAMPLED_PERCENT = 95.0
"""Sampling fills the bar up to here."""
INTERRUPT_SECONDS = 5.0
"""How long a node may go on that should stop; half of the time in which a cancel frees the GPU."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture on our own disk."""

    path: Path
    width: int
    height: int


async def render(kit: GpuKit, attempt: Attempt, base: InstalledBase, graph: Graph, destination: Path) -> Picture:
    """Have ComfyUI draw it and fetch the file; afterwards ComfyUI has nothing of this prompt any more."""
    server = kit.comfy()
    if not server.running:
        await attempt.progress(urgent=True, stage="loading", message="Starting ComfyUI")
    async with kit.use_comfy(base) as client:
        try:
            outcome = await _follow(server, client, attempt, graph)
            if outcome.status is OutcomeStatus.INTERRUPTED:
                raise RetryableError("ComfyUI stopped the prompt, and not for us.", code="prompt_interrupted")
            if outcome.failure is not None:
                raise failure_error(outcome.failure)
            _require_applied(outcome.lora_complaints)
            output = _only_picture(outcome)
            await client.download(output, destination)
        finally:
            server.discard_outputs_of(attempt.prompt_id)
            await see_through(_forget(client, attempt.prompt_id))
    return await asyncio.to_thread(_look_at, destination)


async def _follow(server: ComfyServer, client: ComfyClient, attempt: Attempt, graph: Graph) -> Outcome:
    """Submit and wait; sampling steps become progress. When told to stop, exactly this prompt is stopped."""
    await attempt.progress(urgent=True, stage="queued", message="Waiting for ComfyUI")
    relay = _Relay(attempt)
    relaying = asyncio.create_task(relay.run())
    try:
        await client.submit(graph, attempt.prompt_id, on_progress=relay.hear)
        return await client.wait(attempt.prompt_id)
    except asyncio.CancelledError:
        await see_through(stop_prompt(server, client, attempt.prompt_id))
        raise
    finally:
        relaying.cancel()
        await asyncio.wait({relaying})


async def stop_prompt(server: ComfyServer, client: ComfyClient, prompt_id: str) -> None:
    """Have ComfyUI let go of this prompt.

    A node that does not listen, such as one that loads a large model, ends only with its process: the prompt that
    waits behind it then begins again, as its next attempt.
    """
    try:
        await client.interrupt(prompt_id, INTERRUPT_SECONDS)
    except EngineError as exc:
        log.warning("comfyui_killed", prompt_id=prompt_id, error=exc.detail)
        await server.kill()


class _Relay:
    """Carries steps from the websocket's callback, which must not block, to the snapshot."""

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


async def _forget(client: ComfyClient, prompt_id: str) -> None:
    """Leave no entry in ComfyUI's history; one that died has none."""
    try:
        await client.delete_history(prompt_id)
    except EngineError as exc:
        log.info("history_not_deleted", error=exc.detail)


def _require_applied(complaints: tuple[str, ...]) -> None:
    """ComfyUI draws without a LoRA that it cannot apply, and calls that success."""
    if complaints:
        raise EngineError(
            f"ComfyUI could not apply the LoRA: {complaints[0]}",
            code="lora_not_applied",
            value=len(complaints),
            hint="The file does not fit this base model; train it again, or import the right file.",
        )


def _only_picture(outcome: Outcome) -> Output:
    pictures = [output for output in outcome.outputs if output.key == "images"]
    if len(pictures) != 1:
        raise EngineError(
            f"ComfyUI made {len(pictures)} pictures instead of one.", code="output_missing", value=len(pictures)
        )
    return pictures[0]


def _look_at(path: Path) -> Picture:
    """Prove that the file is a whole picture. Raises EngineError `output_damaged`."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return Picture(path, image.width, image.height)
    except (UnidentifiedImageError, OSError, SyntaxError) as exc:
        raise EngineError(f"ComfyUI's file is no whole PNG: {exc}", code="output_damaged") from exc
