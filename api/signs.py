"""Signs of life: a child says on a pipe that its event loop turns; whoever started it notices when it falls silent."""

import asyncio
import contextlib
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from api.domain.silence import Silence

SIGN_FD = "MASUKA_SIGN_FD"
"""The environment variable that names the pipe to a child."""
SIGN_SECONDS = 1.0
LOOK_SECONDS = 2.0
FIRST_SIGN_FACTOR = 4
"""So much longer than between two signs may it take to the first."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a child is watched."""

    patience_seconds: float
    """Of looking, not of the clock."""
    answers: Callable[[], Awaitable[bool]] | None = None
    """A question that it must answer from when it first has; until then, and without one, its pipe counts."""


class SignPipe:
    """The pipe of one child, which inherits `write_end`."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)

    def heard(self) -> bool:
        """Whether the child has given a sign since the last time."""
        try:
            return bool(os.read(self._read_end, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._read_end)
        os.close(self.write_end)


async def until_silent(watch: Watch, pipe: SignPipe) -> None:
    """Return when the child hangs."""
    looks = max(1, math.ceil(watch.patience_seconds / LOOK_SECONDS))
    silence = Silence(looks, FIRST_SIGN_FACTOR * looks)
    answered = False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        sign = pipe.heard()
        if watch.answers is not None:
            answers = await watch.answers()
            sign = answers or (sign and not answered)
            answered = answered or answers
        if silence.look(sign):
            return


async def give_signs() -> None:
    """In a child: give signs for as long as this event loop turns and somebody looks."""
    named = os.environ.get(SIGN_FD)
    if named is None:
        return
    pipe = int(named)
    os.set_blocking(pipe, False)
    with contextlib.suppress(BrokenPipeError):  # whoever looked is gone
        while True:
            with contextlib.suppress(BlockingIOError):  # it has not looked for a day
                os.write(pipe, b".")
            await asyncio.sleep(SIGN_SECONDS)
