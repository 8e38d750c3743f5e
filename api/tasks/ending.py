"""How an attempt that did not complete its job ends it."""

import errno
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.job import StopReason
from api.errors import JobError, MasukaError, RetryableError
from api.models import Job
from api.services import jobs
from api.tasks.attempt import Attempt

Ending = Callable[[AsyncSession], Awaitable[Job]]
"""Writes how an attempt ended. Raises LeaseLostError."""


def stopped(attempt: Attempt) -> Ending:
    """What becomes of a job whose runner was told to stop. Raises LeaseLostError if that was the reason."""
    if attempt.stop_reason is StopReason.USER:
        return partial(jobs.cancel, lease=attempt.lease)
    if attempt.stop_reason is StopReason.SHUTDOWN:
        return partial(jobs.release, lease=attempt.lease)
    raise jobs.LeaseLostError(value=str(attempt.job_id))


def failed(attempt: Attempt, exc: Exception) -> Ending:
    """What becomes of a job whose runner raised this."""
    error = error_of(exc)
    # After a full disk another attempt begins by waiting until there is space.
    retryable = isinstance(error, RetryableError) or error.code == "disk_full"
    return partial(jobs.fail, lease=attempt.lease, error=error, retryable=retryable)


def error_of(exc: Exception) -> MasukaError:
    """What an exception means for the job, also one that nobody translated."""
    if isinstance(exc, MasukaError):
        return exc
    if isinstance(exc, ExceptionGroup):
        return error_of(exc.exceptions[0])
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError("The disk is full.", code="disk_full", hint="Free some space, then retry the job.")
    if isinstance(exc, (SQLAlchemyError, ConnectionError, TimeoutError)):
        return RetryableError("The database gave no answer.", code="database_unreachable")
    return JobError(
        "MASUKA itself failed while doing this job.",
        code="internal_error",
        hint="The worker's log has the details.",
    )
