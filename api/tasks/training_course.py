"""Keeps the course of a training in the database while its trainer is followed."""

import asyncio
from dataclasses import replace
from uuid import UUID

from api.domain.curve import Course
from api.services import jobs, metrics
from api.tasks.attempt import Attempt
from api.trainer import process
from api.trainer.course import CourseReader, course_of
from api.trainer.events import Event
from api.trainer.workdir import Workdir


class CourseKeeper:
    """Of one run. Told again of what it was told before, as after a crash, it changes nothing."""

    def __init__(self, attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
        self._sessions = attempt.resources.sessions
        self._lease = attempt.lease
        self._workdir = workdir
        self._session_id = session_id
        self._reader = CourseReader()
        self._unsaved = Course()
        self._begun = False

    def saw(self, event: Event) -> None:
        self._reader.take(event)

    async def save(self) -> None:
        """Write what is new. Raises LeaseLostError, and what a database raises that is away; then nothing is lost."""
        news, unsaved = self._reader.news(), self._unsaved
        self._unsaved = Course([*unsaved.points, *news.points], [*unsaved.checkpoints, *news.checkpoints])
        if self._begun and not self._unsaved.points and not self._unsaved.checkpoints:
            return
        handle = process.recall(self._workdir)
        resumed_at = await asyncio.to_thread(process.resumed_step, self._workdir)
        async with self._sessions.begin() as session:
            await jobs.require_held(session, self._lease)
            if not self._begun and handle is not None:
                await metrics.forget_after(session, self._session_id, resumed_at, before=handle.started_at)
            await metrics.add(session, self._session_id, self._unsaved)
        self._begun, self._unsaved = True, Course()


async def keep_unfollowed(attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
    """What the newest run has said and nobody has kept, before its files go or another run takes its place.

    Raises LeaseLostError.
    """
    course = await asyncio.to_thread(course_of, workdir)
    async with attempt.resources.sessions.begin() as session:
        await jobs.require_held(session, attempt.lease)
        last = await metrics.last_step(session, session_id)
        later = [point for point in course.points if point.step >= last]
        saved = [step for step in course.checkpoints if step >= last]
        await metrics.add(session, session_id, replace(course, points=later, checkpoints=saved))
