"""Many pictures asked for at once: how much of ComfyUI's own throughput is left, and how long it idles in between."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tests.bench.figures import Fact, Result, Series
from tests.bench.raw import RawClient, graph_in, raw_client, with_seed
from tests.bench.stand import PROMPT, SMALL, Event, Stand, service

COUNT, QUICK_COUNT = 200, 4
"""In a round."""
ROUNDS, QUICK_ROUNDS = 4, 1
"""Each way; they take turns."""
GAP_MILLISECONDS = 10
SHARE_OF_RAW = 0.97


async def run(folder: Path, quick: bool) -> Result:
    count, rounds = (QUICK_COUNT, QUICK_ROUNDS) if quick else (COUNT, ROUNDS)
    raw_seconds: list[float] = []
    our_seconds: list[float] = []
    raw_gaps: list[float] = []
    our_gaps: list[float] = []
    async with service(folder) as stand:
        graph = graph_in(await stand.draw_patiently())
        for _ in range(rounds):
            seen = len(stand.events())
            # One for each round: nobody reads its websocket during ours, and ComfyUI's news would fill and close it.
            async with raw_client(stand.comfyui_url()) as raw:
                raw_seconds.append(await _raw(raw, [with_seed(graph, stand.seed()) for _ in range(count)]))
            raw_gaps += gaps(stand.events()[seen:])
            seen = len(stand.events())
            our_seconds.append(await _ours(stand, count))
            our_gaps += gaps(stand.events()[seen:])
    ours, bare = Series("masuka, a round", "s", tuple(our_seconds)), Series("raw, a round", "s", tuple(raw_seconds))
    idle = Series("idle between two pictures, masuka", "ms", tuple(our_gaps))
    bare_idle = Series("idle between two pictures, raw", "ms", tuple(raw_gaps))
    facts = (
        Fact("share of raw's throughput", "x", sum(raw_seconds) / sum(our_seconds), at_least=SHARE_OF_RAW),
        Fact("idle between two pictures, p95", "ms", idle.quantile(0.95), at_most=GAP_MILLISECONDS),
    )
    return Result((bare, ours, bare_idle, idle), facts, {**SMALL, "rounds": rounds, "pictures in a round": count})


async def _raw(raw: RawClient, graphs: Sequence[dict[str, dict[str, object]]]) -> float:
    """Seconds until the last picture is in hand."""
    began = time.perf_counter()
    for prompt_id in [await raw.queue(graph) for graph in graphs]:
        await raw.ended(prompt_id)
        await raw.fetch(prompt_id)
    return time.perf_counter() - began


async def _ours(stand: Stand, count: int) -> float:
    """Seconds until the batch is complete: every picture stored and read back."""
    seeds = [stand.seed() for _ in range(count)]
    began = time.perf_counter()
    batch = await stand.post("/api/generate/sweep", {**SMALL, "prompts": [PROMPT], "seeds": seeds})
    await stand.end_of(batch["batch_id"])
    return time.perf_counter() - began


def gaps(events: Sequence[Event]) -> list[float]:
    """Milliseconds between the end of one prompt and the begin of the next, by ComfyUI's own events."""
    began = sorted(event.at for event in events if event.event == "execution_start")
    ended = sorted(event.at for event in events if event.event == "execution_success")
    assert len(began) == len(ended), "a prompt has failed"
    return [1000 * (then - end) for end, (_, then) in zip(ended, pairwise(began), strict=False)]
