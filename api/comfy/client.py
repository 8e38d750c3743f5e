"""Submit graphs to one ComfyUI process and learn how they end, whatever happens to the websocket meanwhile."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from time import monotonic
from types import TracebackType
from typing import Any, Self

from api.comfy.errors import EngineSilent, PromptLost, PromptRejected
from api.comfy.history import Outcome, OutcomeStatus
from api.comfy.http import ComfyHttp
from api.comfy.log import ChildLog
from api.comfy.messages import Frame
from api.comfy.socket import ComfySocket
from api.comfy.watch import OnPreview, OnProgress, Watch
from api.errors import EngineError
from api.see_through import see_through

# While a prompt is in flight its end is noticed within this time even if the websocket has frozen.
RECONCILE_SECONDS = 1.0
_LOST_AFTER_SECONDS = 2.0
_REGISTER_SECONDS = 1.0
_LATE_FRAME_SECONDS = 1.0
INTERRUPT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.2


class ComfyClient(ComfyHttp):
    """ComfyUI's HTTP interface plus prompts that are followed to their end.

    The websocket only tells when to look and how far the sampler is; what happened is read over HTTP. One per ComfyUI
    process: an asynchronous context manager, or `open` and `aclose`.
    """

    def __init__(self, base_url: str, log: ChildLog | None = None) -> None:
        """With the process's log, outcomes tell what it says about LoRAs."""
        super().__init__(base_url)
        self._log = log
        self._watches: dict[str, Watch] = {}
        self._socket = ComfySocket(base_url, self._on_frame, self._look_at_all)
        self._following: asyncio.Task[None] | None = None

    def open(self) -> Self:
        self._following = asyncio.create_task(self._socket.run(), name="comfyui-socket")
        return self

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await super().aclose()

    async def submit(
        self,
        graph: Mapping[str, Any],
        prompt_id: str,
        *,
        extra_data: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
    ) -> None:
        """Queue a graph under an id that was never used before; once is enough, a repetition changes nothing.

        `on_progress` and `on_preview` are called from the event loop: they must not block, and may never be called.
        Follow with `wait`.
        When cancelled it returns only once ComfyUI has taken the graph or not, so that an `interrupt` after it stops
        what there is. Raises PromptRejected; then nothing of the graph runs.
        """
        if prompt_id in self._watches:
            return
        await self._socket.registered(_REGISTER_SECONDS)
        log = self._log if any("Lora" in node["class_type"] for node in graph.values()) else None
        position = log.position if log is not None else 0
        watch = Watch(self._socket.client_id, on_progress, on_preview, log, position)
        self._watches[prompt_id] = watch
        try:
            async with watch.change:
                await see_through(self._post_once(graph, prompt_id, watch, extra_data or {}))
        except PromptRejected:
            await self._stop(prompt_id, watch, INTERRUPT_SECONDS)
            self._forget(prompt_id, watch)
            raise
        except BaseException:
            self._forget(prompt_id, watch)
            raise

    async def wait(self, prompt_id: str) -> Outcome:
        """Until the prompt has ended, in whatever way.

        Raises PromptLost if ComfyUI does not know it (safe to submit again under a new id), EngineDied at once when
        the process is gone, EngineSilent when it has not answered for a minute.
        """
        watch = self._watches.setdefault(prompt_id, Watch())
        try:
            outcome = await self._follow(prompt_id, watch)
        except BaseException:
            self._forget(prompt_id, watch)
            raise
        if watch.ended or watch.removed or watch.client_id != self._socket.client_id:
            self._forget(prompt_id, watch)
        else:
            # HTTP was faster than the last frame; if that does not come at all, the socket is frozen.
            asyncio.get_running_loop().call_later(_LATE_FRAME_SECONDS, self._judge_socket, prompt_id, watch)
        return replace(outcome, lora_complaints=watch.lora_complaints())

    async def interrupt(self, prompt_id: str, timeout_seconds: float = INTERRUPT_SECONDS) -> None:
        """Stop this prompt and no other; afterwards ComfyUI neither runs nor queues it. Any number of times.

        `wait` tells how it ended: interrupted, or whatever it was faster to become. Raises EngineError
        `interrupt_timeout` when a node that cannot be interrupted goes on for longer.
        """
        watch = self._watches.get(prompt_id)
        held: AbstractAsyncContextManager[object] = watch.change if watch else nullcontext()
        async with held:
            await self._stop(prompt_id, watch, timeout_seconds)

    async def end_prompts(self, chosen: Callable[[str], bool]) -> None:
        """Stop the prompts with these ids, first those that wait; like `interrupt` for each of them."""
        queue = await self.queue()
        for prompt_id in (*queue.pending, *queue.running):
            if chosen(prompt_id):
                await self.interrupt(prompt_id)

    # ---- following -----------------------------------------------------------------------------------------------

    async def _follow(self, prompt_id: str, watch: Watch) -> Outcome:
        missing_since: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_SECONDS):
                    await watch.look.wait()
            watch.look.clear()
            if watch.removed:
                return Outcome(OutcomeStatus.INTERRUPTED)
            try:
                known, outcome = await self._look(prompt_id, watch)
            except EngineSilent:
                if self.gone:
                    raise
                continue
            answered_at = monotonic()
            if outcome is not None:
                return outcome
            missing_since = None if known else missing_since or answered_at
            if missing_since is not None and answered_at - missing_since >= _LOST_AFTER_SECONDS:
                raise PromptLost(value=prompt_id)

    async def _look(self, prompt_id: str, watch: Watch) -> tuple[bool, Outcome | None]:
        """Whether ComfyUI knows the prompt, and how it ended if it has.

        The queue comes first: a prompt that ends between the two questions is then found by the second, while in the
        other order it would be in neither answer.
        """
        if watch.ended and (outcome := await self.outcome(prompt_id)):
            return True, outcome
        if prompt_id in await self.queue():
            return True, None
        outcome = await self.outcome(prompt_id)
        return outcome is not None, outcome

    def _on_frame(self, frame: Frame) -> None:
        watch = self._watches.get(getattr(frame, "prompt_id", None) or "")
        if watch is not None:
            watch.hear(frame)

    def _look_at_all(self) -> None:
        for watch in self._watches.values():
            watch.look.set()

    def _judge_socket(self, prompt_id: str, watch: Watch) -> None:
        self._forget(prompt_id, watch)
        if not watch.ended and watch.client_id == self._socket.client_id:
            self._socket.drop()

    def _forget(self, prompt_id: str, watch: Watch) -> None:
        if self._watches.get(prompt_id) is watch:
            del self._watches[prompt_id]

    # ---- asking --------------------------------------------------------------------------------------------------

    async def _post_once(
        self, graph: Mapping[str, Any], prompt_id: str, watch: Watch, extra_data: Mapping[str, Any]
    ) -> None:
        try:
            await self._post_prompt(graph, prompt_id, watch.client_id, extra_data)
        except EngineSilent:
            if not await self._known(prompt_id, watch):
                raise

    async def _known(self, prompt_id: str, watch: Watch) -> bool:
        """Whether ComfyUI has the prompt, as soon as it answers. Raises EngineSilent when it has given up doing so."""
        while True:
            try:
                known, _ = await self._look(prompt_id, watch)
            except EngineSilent:
                if self.gone:
                    raise
            else:
                return known

    async def _stop(self, prompt_id: str, watch: Watch | None, timeout_seconds: float) -> None:
        await self._delete_pending(prompt_id)
        try:
            async with asyncio.timeout(timeout_seconds):
                pause = _FIRST_PAUSE_SECONDS
                # Again and again: ComfyUI resets its flag when a prompt begins, and may do so just after we set it.
                while prompt_id in await self.queue():
                    await self._interrupt_running(prompt_id)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        except TimeoutError as exc:
            raise EngineError(
                "A node of the workflow cannot be interrupted and is still running.",
                code="interrupt_timeout",
                value=prompt_id,
                hint="Wait for it to end, or restart ComfyUI.",
            ) from exc
        if watch is not None and await self.outcome(prompt_id) is None:
            watch.removed = True
            watch.look.set()
