"""What a client knows of one prompt in flight."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from api.comfy.log import ChildLog
from api.comfy.messages import Cached, Executing, Frame, Progress, Step

OnProgress = Callable[[Step], None]


@dataclass(slots=True, eq=False)
class Watch:
    """Fed by the websocket, read by whoever waits for the prompt."""

    client_id: str = ""
    """The websocket to which ComfyUI tells about this prompt."""
    on_progress: OnProgress | None = None
    log: ChildLog | None = None
    ended: bool = False
    """The last frame has come: the history can be read."""
    removed: bool = False
    """Deleted from ComfyUI's queue before it began; such a prompt leaves no history."""
    look: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a reason to look over HTTP at once."""
    change: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while ComfyUI is asked to take the prompt or to stop it, so that the two cannot overtake each other."""
    _log_from: int | None = None
    """Where the log was when the prompt began to run."""

    def hear(self, frame: Frame) -> None:
        """Take a frame of this prompt."""
        if isinstance(frame, Executing) and frame.node is None:
            self.ended = True
            self.look.set()
            return
        if isinstance(frame, Cached) and self.log is not None:
            self._log_from = self.log.position
        if isinstance(frame, Cached | Executing | Progress) and self.on_progress is not None:
            # Not from here: an error in it must not end the websocket's task.
            asyncio.get_running_loop().call_soon(self.on_progress, frame)

    def lora_complaints(self) -> tuple[str, ...]:
        if self.log is None or self._log_from is None:
            return ()
        return tuple(self.log.lora_complaints(self._log_from))
