"""What each new ComfyUI says of its nodes, kept for whoever judges workflows while it sleeps."""

import asyncio

import structlog

from api.comfy.http import ComfyHttp
from api.db import DATABASE_ERRORS, Sessions
from api.errors import EngineError
from api.services import node_catalogue

log = structlog.get_logger(__name__)


class NodeReport:
    """Asks once per ComfyUI process, beside its work; what fails is tried again with the next picture."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._asked: ComfyHttp | None = None
        self._asking: asyncio.Task[None] | None = None

    def take(self, client: ComfyHttp) -> None:
        """Hear of the ComfyUI that is used now; every process has a client of its own."""
        if client is not self._asked and (self._asking is None or self._asking.done()):
            self._asked = client
            self._asking = asyncio.create_task(self._record(client), name="comfyui-nodes")

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _record(self, client: ComfyHttp) -> None:
        try:
            await node_catalogue.record(self._sessions, await client.object_info())
        except (EngineError, *DATABASE_ERRORS) as exc:
            self._asked = None
            log.warning("nodes_not_recorded", error=str(exc))
