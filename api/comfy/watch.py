"""What a client knows of one prompt in flight."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from api.comfy.log import ChildLog
from api.comfy.messages import Cached, Executing, Frame, Preview, Progress, Step

OnProgress = Callable[[Step], None]
OnPreview = Callable[[Preview], None]


@dataclass(slots=True, eq=False)
class Watch:
    """Fed by the websocket, read by whoever waits for the prompt."""

    client_id: str = ""
    """The websocket to which ComfyUI tells about this prompt."""
    on_progress: OnProgress | None = None
    on_preview: OnPreview | None = None
    log: ChildLog | None = None
    """What ComfyUI prints, if the prompt has LoRAs to complain about."""
    log_from: int = 0
    """Where the log was when the prompt was submitted; behind another one, when that one had ended."""
    ended: bool = False
    """The last frame has come: the history can be read."""
    removed: bool = False
    """Deleted from ComfyUI's queue before it began; such a prompt leaves no history."""
    look: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a reason to look over HTTP at once."""
    change: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while ComfyUI is asked to take the prompt or to stop it, so that the two cannot overtake each other."""

    def hear(self, frame: Frame) -> None:
        """Take a frame of this prompt."""
        if isinstance(frame, Executing) and frame.node is None:
            self.ended = True
            self.look.set()
            return
        if isinstance(frame, Cached) and self.log is not None:
            # Not the present position: what it prints may arrive before what it says, even though it came after.
            self.log_from = max(self.log_from, self.log.last_end)
        if isinstance(frame, Cached | Executing | Progress) and self.on_progress is not None:
            # Not from here: an error in it must not end the websocket's task.
            asyncio.get_running_loop().call_soon(self.on_progress, frame)
        if isinstance(frame, Preview) and self.on_preview is not None:
            asyncio.get_running_loop().call_soon(self.on_preview, frame)

    def lora_complaints(self) -> tuple[str, ...]:
        return () if self.log is None else tuple(self.log.lora_complaints(self.log_from))
