"""`/api/webhooks`: what was told of jobs that ended, to whom, and how that went; tell it again."""

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from api.domain.webhook import DeliveryStatus, EventType
from api.models import WebhookDelivery
from api.routes.deps import Cursor, IdPath, Limit, SessionDep
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import webhooks
from api.services.pages import page

router = APIRouter(prefix="/api/webhooks/deliveries", tags=["webhooks"])

ATTEMPT_EXAMPLE: dict[str, Any] = {
    "at": "2026-11-22T10:00:05Z",
    "seconds": 0.12,
    "status_code": 503,
    "error": None,
    "answer": "try later",
}
EXAMPLE: dict[str, Any] = {
    "id": "8f2b116f-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "job_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "type": "image.completed",
    "receiver": "https://example.org",
    "status": "pending",
    "attempt": 1,
    "due_at": "2026-11-22T10:00:10Z",
    "last": ATTEMPT_EXAMPLE,
    "created_at": "2026-11-22T10:00:00Z",
    "finished_at": None,
}
PAYLOAD_EXAMPLE: dict[str, Any] = {
    "type": "image.completed",
    "timestamp": "2026-11-22T10:00:00+00:00",
    "data": {
        "job_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
        "kind": "image",
        "status": "completed",
        "asset_id": "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
    },
}


class AttemptOut(BaseModel):
    at: datetime
    seconds: float
    status_code: int | None = Field(description="What the receiver answered; null: nothing.")
    error: str | None = Field(description="Why there was no answer.")
    answer: str | None = Field(description="The beginning of the answer.")


class DeliveryOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    id: UUID = Field(description="Sent as `webhook-id`, the same at every attempt.")
    job_id: UUID
    type: EventType
    receiver: str = Field(description="Scheme, host and port; the rest of its URL may be a secret.")
    status: DeliveryStatus
    attempt: int = Field(description="Attempts since it was recorded, or last asked for again.")
    due_at: datetime | None = Field(description="When it is tried next; null once it has ended.")
    last: AttemptOut | None
    created_at: datetime
    finished_at: datetime | None


class DeliveryDetail(DeliveryOut):
    model_config = ConfigDict(
        json_schema_extra={"example": {**EXAMPLE, "payload": PAYLOAD_EXAMPLE, "attempts": [ATTEMPT_EXAMPLE]}}
    )

    payload: dict[str, Any] = Field(description="What is sent.")
    attempts: list[AttemptOut] = Field(description="The last 20, oldest first.")


class DeliveryList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[DeliveryOut]
    next_cursor: str | None


def _about(row: WebhookDelivery) -> dict[str, Any]:
    about = row.model_dump(include=set(DeliveryOut.model_fields))
    waits = row.status == DeliveryStatus.PENDING
    return {**about, "due_at": row.due_at if waits else None, "last": row.log[-1] if row.log else None}


def _detail(row: WebhookDelivery) -> DeliveryDetail:
    return DeliveryDetail(**_about(row), payload=json.loads(row.body), attempts=row.log)


@router.get("/", responses=responses(422))
async def list_deliveries(
    session: SessionDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[DeliveryStatus | None, Query()] = None,
    type: Annotated[EventType | None, Query()] = None,
    job_id: Annotated[UUID | None, Query()] = None,
) -> DeliveryList:
    """Webhooks of the last MASUKA_WEBHOOK_DAYS, and all that are still to be delivered."""
    where = [col(WebhookDelivery.status) == status.value] if status else []
    where += [col(WebhookDelivery.type) == type] if type else []
    where += [col(WebhookDelivery.job_id) == job_id] if job_id else []
    found = await page(session, WebhookDelivery, limit=limit, cursor=cursor, where=where)
    return DeliveryList(items=[DeliveryOut(**_about(row)) for row in found.items], next_cursor=found.next_cursor)


@router.get("/{delivery_id}", responses=responses(404, 422))
async def get_delivery(session: SessionDep, delivery_id: IdPath) -> DeliveryDetail:
    """One webhook with what it says and its attempts."""
    return _detail(await webhooks.get(session, delivery_id))


@router.post(
    "/{delivery_id}/redeliver", status_code=202, responses=responses(404, 409, 422), response_model=DeliveryDetail
)
async def redeliver(session: SessionDep, once: OnceDep, delivery_id: IdPath) -> Any:
    """Deliver it again, or at once: the same message under the same `webhook-id`."""

    async def work() -> DeliveryDetail:
        return _detail(await webhooks.redeliver(session, delivery_id))

    return await once({}, 202, work)
