"""Reads what a run has said so far, and goes on reading while it says more."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from api.trainer.messages import Ignored, Message, parse
from api.trainer.process import recall
from api.trainer.workdir import Workdir

POLL_SECONDS = 0.2
_LINES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One message and where it stands in the file."""

    offset: int
    """Where the next event begins, in bytes; following from here goes on without a gap."""
    seq: int
    """1, 2, 3, ... within a run."""
    time: float
    """When it arrived, in seconds since the epoch."""
    message: Message


async def follow(workdir: Workdir, offset: int = 0, *, poll_seconds: float = POLL_SECONDS) -> AsyncIterator[Event]:
    """Every event of the newest run from `offset` on, as it comes.

    Ends when the run is over and all of it was read, also when its runner was killed; `outcome` tells how it went.
    """
    while True:
        over = _is_over(workdir)  # asked before reading: what is written after the answer is read in the next round
        events = await asyncio.to_thread(read_events, workdir, offset)
        for event in events:
            yield event
        if events:
            offset = events[-1].offset
        elif over:
            return
        else:
            await asyncio.sleep(poll_seconds)


def read_events(workdir: Workdir, offset: int = 0) -> list[Event]:
    """The next few hundred events from `offset` on; none when there are no more yet."""
    events: list[Event] = []
    try:
        with workdir.events.open("rb") as file:
            file.seek(offset)
            for line in islice(file, _LINES_AT_ONCE):
                if not line.endswith(b"\n"):
                    break  # still being written
                offset += len(line)
                events.append(_event(line, offset))
    except FileNotFoundError:
        return []
    return events


def _is_over(workdir: Workdir) -> bool:
    if workdir.exit.exists():
        return True
    handle = recall(workdir)
    return handle is None or not handle.alive()


def _event(line: bytes, offset: int) -> Event:
    try:
        record: Any = json.loads(line)
        return Event(offset, int(record["seq"]), float(record["time"]), parse(record["message"]))
    except (ValueError, KeyError, TypeError):
        return Event(offset, 0, 0.0, Ignored("damaged line"))  # a disk that was full may have left half a line
