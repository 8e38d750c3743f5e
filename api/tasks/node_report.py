"""What each new ComfyUI says of its nodes, kept for whoever judges workflows while it sleeps."""

import asyncio

import structlog

from api.comfy.http import ComfyHttp
from api.db import DATABASE_ERRORS, Sessions
from api.errors import EngineError
from api.services import node_catalogue

log = structlog.get_logger(__name__)


class NodeReport:
    """Asks once per ComfyUI process, before its first picture: a tenth of a second after a start of many."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._asked: ComfyHttp | None = None
        self._asking = asyncio.Lock()

    async def take(self, client: ComfyHttp) -> None:
        """Hear of the ComfyUI that is used now; every process has a client of its own. What fails is asked again.

        Whoever comes meanwhile waits: the picture that has it asked would else be overtaken by the one behind it.
        """
        async with self._asking:
            if client is self._asked:
                return
            try:
                await node_catalogue.record(self._sessions, await client.object_info())
                self._asked = client
            except (EngineError, *DATABASE_ERRORS) as exc:
                log.warning("nodes_not_recorded", error=str(exc))
