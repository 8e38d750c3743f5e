"""Passes on to a trainer what its session is asked for, and sees whether it was done."""

import asyncio
import time
from uuid import UUID

import structlog

from api.services import wishes
from api.services.wishes import Wish
from api.tasks.attempt import Attempt
from api.trainer import triggers
from api.trainer.checkpoint_stop import takes_wishes
from api.trainer.events import Event
from api.trainer.messages import CheckpointSaved, Stage
from api.trainer.triggers import Told
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)


class WishTeller:
    def __init__(self, attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
        self._sessions = attempt.resources.sessions
        self._lease = attempt.lease
        self._workdir = workdir
        self._session_id = session_id
        self._done_at: dict[Wish, float] = {}
        """When the trainer last did it, asked or not."""

    def saw(self, event: Event) -> None:
        match event.message:
            case CheckpointSaved():
                self._done_at[Wish.CHECKPOINT] = event.time
            case Stage(key="validation", status="completed"):
                self._done_at[Wish.SAMPLE] = event.time
            case _:
                pass

    async def look(self) -> None:
        """Pass on what is new, and end what was done since it was passed on. Raises LeaseLostError."""
        async with self._sessions() as session:
            standing = await wishes.standing(session, self._session_id)
        if not standing or not await asyncio.to_thread(takes_wishes, self._workdir):
            return
        for wish, since in standing.items():
            told = await asyncio.to_thread(triggers.told, self._workdir, wish.value)
            if told is None or told.wish != since.isoformat():
                new = Told(since.isoformat(), time.time())
                await asyncio.to_thread(triggers.tell, self._workdir, wish.value, new)
                log.info("trainer_asked", wish=wish.value)
            elif self._done_at.get(wish, 0.0) >= told.at:
                async with self._sessions.begin() as session:
                    await wishes.fulfil(session, self._lease, self._session_id, wish, since)
