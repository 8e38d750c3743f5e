"""The outbox: what is to be told of jobs that have ended, kept until a receiver has it or will not have it."""

import json
import random
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api import webhook_address
from api.domain.job import Kind, Status
from api.domain.webhook import DeliveryStatus, message, retry_seconds
from api.models import GeneratedAsset, Job, Model, ModelImport, WebhookDelivery
from api.models.base import utcnow

LEASE_SECONDS = 30.0
"""For one attempt, which ends long before; when its worker dies, another takes it up after that."""
LOG_LENGTH = 20

SUBJECT_NAME = {
    Kind.IMAGE: "asset_id",
    Kind.TRAINING: "session_id",
    Kind.IMPORT: "import_id",
    Kind.CAPTION: "captioning_id",
}


async def add(session: AsyncSession, job: Job, subject: UUID | None) -> None:
    """Tell the job's receiver, if it has one, how it ended; part of the transaction that ends it.

    `subject`: the asset, the session, the import or the captioning that it was for, None when that is gone.
    """
    if job.webhook_url is None or job.finished_at is None:
        return
    told = message(f"{job.kind}.{job.status}", job.finished_at, await _about(session, job, subject))
    session.add(
        WebhookDelivery(
            job_id=job.id,
            type=told["type"],
            url=job.webhook_url,
            receiver=webhook_address.shown(job.webhook_url),
            body=json.dumps(told),
        )
    )


async def _about(session: AsyncSession, job: Job, subject: UUID | None) -> dict[str, Any]:
    about: dict[str, Any] = {
        "job_id": str(job.id),
        "kind": job.kind,
        "status": job.status,
        SUBJECT_NAME[job.kind_enum]: _text(subject),
        "attempt": job.attempt,
        "retry_of": _text(job.retry_of),
        "error_code": job.error_code,
        "error_message": job.error_message,
        "error_hint": job.error_hint,
        "created_at": _text(job.created_at),
        "started_at": _text(job.started_at),
        "finished_at": _text(job.finished_at),
    }
    if job.kind_enum is Kind.IMAGE:
        batch = sa.select(col(GeneratedAsset.batch_id)).where(col(GeneratedAsset.id) == subject)
        about["batch_id"] = _text(await session.scalar(batch))
    if job.kind_enum is Kind.TRAINING and job.status_enum is Status.COMPLETED:
        # Registered in this transaction; what was promoted before came earlier.
        trained = sa.select(col(Model.id)).where(col(Model.training_session_id) == subject)
        trained = trained.order_by(col(Model.created_at).desc()).limit(1)
        about["model_id"] = _text(await session.scalar(trained))
    if job.kind_enum is Kind.IMPORT and job.status_enum is Status.COMPLETED:
        imported = sa.select(col(ModelImport.model_id)).where(col(ModelImport.id) == subject)
        about["model_id"] = _text(await session.scalar(imported))
    return about


def _text(value: UUID | datetime | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else None if value is None else str(value)


# ---- one attempt -------------------------------------------------------------------------------------------------


async def claim(session: AsyncSession, busy: Collection[str]) -> WebhookDelivery | None:
    """Take what is longest due, but for receivers that are `busy`; None when there is nothing to do now."""
    now = utcnow()
    due = [col(WebhookDelivery.status) == DeliveryStatus.PENDING.value, col(WebhookDelivery.due_at) <= now, _free(now)]
    found = await session.scalar(
        sa.select(col(WebhookDelivery.id))
        .where(*due, col(WebhookDelivery.receiver).not_in(busy))
        .order_by(col(WebhookDelivery.due_at), col(WebhookDelivery.id))
        .limit(1)
    )
    if found is None:
        return None
    return await session.scalar(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.id) == found, *due)
        .values(attempt=col(WebhookDelivery.attempt) + 1, lease_until=now + timedelta(seconds=LEASE_SECONDS))
        .returning(WebhookDelivery)
        .execution_options(populate_existing=True)
    )


async def settle(
    session: AsyncSession, delivery: WebhookDelivery, entry: dict[str, Any], *, taken: bool, final: bool
) -> WebhookDelivery | None:
    """Write how the attempt went; None, with nothing written, when it took too long and is another's now.

    `taken`: the receiver has it. `final`: when not, it is not tried again.
    """
    now = utcnow()
    again = None if taken or final else retry_seconds(delivery.attempt, random.random())
    ended = DeliveryStatus.DELIVERED if taken else DeliveryStatus.FAILED
    values: dict[str, Any] = {"lease_until": None, "log": [*delivery.log, entry][-LOG_LENGTH:]}
    if again is None:
        values |= {"status": ended.value, "finished_at": now}
    else:
        values |= {"due_at": now + timedelta(seconds=again)}
    return await session.scalar(
        sa.update(WebhookDelivery)
        .where(
            col(WebhookDelivery.id) == delivery.id,
            col(WebhookDelivery.attempt) == delivery.attempt,
            col(WebhookDelivery.lease_until) == delivery.lease_until,
        )
        .values(**values)
        .returning(WebhookDelivery)
        .execution_options(populate_existing=True)
    )


async def ask_again(session: AsyncSession, delivery_id: UUID) -> WebhookDelivery | None:
    """Have it delivered now, with all its attempts before it; None when it is being tried this moment, or unknown."""
    now = utcnow()
    return await session.scalar(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.id) == delivery_id, _free(now))
        .values(status=DeliveryStatus.PENDING.value, attempt=0, due_at=now, lease_until=None, finished_at=None)
        .returning(WebhookDelivery)
        .execution_options(populate_existing=True)
    )


async def forget(session: AsyncSession, days: int) -> None:
    """Remove what ended longer ago."""
    await session.execute(
        sa.delete(WebhookDelivery).where(col(WebhookDelivery.finished_at) < utcnow() - timedelta(days=days))
    )


def _free(now: datetime) -> sa.ColumnElement[bool]:
    """Nobody tries it now."""
    return col(WebhookDelivery.lease_until).is_(None) | (col(WebhookDelivery.lease_until) < now)
