"""One picture drawn by ComfyUI: followed to its end, fetched, and nothing of it left there."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from PIL import Image, UnidentifiedImageError

from api.comfy.client import ComfyClient
from api.comfy.errors import OutOfMemory, failure_error
from api.comfy.history import Outcome, OutcomeStatus, Output
from api.comfy.server import ComfyServer
from api.domain.engine import InstalledBase
from api.domain.graph import Graph
from api.domain.lighter import DECODERS, lighter
from api.errors import EngineError, RetryableError
from api.see_through import see_through
from api.tasks.attempt import Attempt
from api.tasks.gpu import GpuKit
from api.tasks.relay import Relay

log = structlog.get_logger(__name__)

INTERRUPT_SECONDS = 5.0
"""How long a node may go on that should stop; half of the time in which a cancel frees the GPU."""
LIGHTER_MESSAGE = "Ran out of memory; trying once more in a lighter way"
LIGHTER_SUFFIX = "-lighter"
"""ComfyUI needs an id that it has not had."""


_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture on our own disk."""

    path: Path
    width: int
    height: int
    lighter: bool = False
    """Memory ran out at first, so it was drawn in a way that needs less."""


async def render(kit: GpuKit, attempt: Attempt, base: InstalledBase, graph: Graph, destination: Path) -> Picture:
    """Have ComfyUI draw it and fetch the file; afterwards ComfyUI has nothing of this prompt any more.

    When memory runs out it is tried once more, in a lighter way and with nobody beside it. A repeated attempt has
    nobody beside it either: what ends ComfyUI every time must not take others with it every time.
    """
    if not kit.comfy().running:
        await attempt.progress(urgent=True, stage="loading", message="Starting ComfyUI")
    try:
        async with kit.use_comfy(base, alone=attempt.number > 1) as client:
            return await _draw(kit, client, attempt, graph, destination)
    except OutOfMemory as exc:
        log.warning("out_of_memory", node_type=exc.node_type)
        light = exc.node_type not in DECODERS
    await attempt.progress(urgent=True, stage="loading", message=LIGHTER_MESSAGE, step=None, progress=0.0)
    async with kit.use_comfy(base, alone=True, light=light) as client:
        picture = await _draw(kit, client, attempt, lighter(graph), destination, LIGHTER_SUFFIX)
    return replace(picture, lighter=True)


async def _draw(
    kit: GpuKit, client: ComfyClient, attempt: Attempt, graph: Graph, destination: Path, suffix: str = ""
) -> Picture:
    """Draw with this ComfyUI, once. Raises OutOfMemory and the other errors of ComfyUI."""
    server, prompt_id = kit.comfy(), attempt.prompt_id + suffix
    try:
        outcome = await _follow(kit, client, attempt, graph, prompt_id)
        if outcome.status is OutcomeStatus.INTERRUPTED:
            raise RetryableError("ComfyUI stopped the prompt, and not for us.", code="prompt_interrupted")
        if outcome.failure is not None:
            raise failure_error(outcome.failure)
        _require_applied(outcome.lora_complaints)
        await client.download(_only_picture(outcome), destination)
    finally:
        server.discard_outputs_of(attempt.prompt_id)  # the name that the graph gives them
        await see_through(_forget(client, prompt_id))
    return await asyncio.to_thread(look_at, destination)


async def _follow(kit: GpuKit, client: ComfyClient, attempt: Attempt, graph: Graph, prompt_id: str) -> Outcome:
    """Submit and wait; sampling steps become progress. When told to stop, exactly this prompt is stopped."""
    async with AsyncExitStack() as turn:
        await turn.enter_async_context(kit.handing_over)
        await attempt.tell(stage="queued", message="Waiting for ComfyUI")
        relay = Relay(attempt)
        relaying = {asyncio.create_task(relay.run()), asyncio.create_task(relay.show())}
        try:
            await client.submit(graph, prompt_id, on_progress=relay.hear, on_preview=relay.see)
            await turn.aclose()
            return await client.wait(prompt_id)
        except asyncio.CancelledError:
            await see_through(stop_prompt(kit.comfy(), client, prompt_id))
            raise
        finally:
            for task in relaying:
                task.cancel()
            await asyncio.wait(relaying)


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


def look_at(path: Path) -> Picture:
    """Prove that the file is a whole picture. Raises EngineError `output_damaged`."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()  # whole in its pixels; a file cut off behind them is found by its end
            if path.read_bytes()[-len(_PNG_END) :] != _PNG_END:
                raise OSError("its end is missing")
            return Picture(path, image.width, image.height)
    except (UnidentifiedImageError, OSError, SyntaxError) as exc:
        raise EngineError(f"ComfyUI's file is no whole PNG: {exc}", code="output_damaged") from exc
