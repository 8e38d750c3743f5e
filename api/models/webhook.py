"""A message about a job's end, on its way to a receiver or as it was delivered."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, Index, SQLModel

from api.domain.webhook import DeliveryStatus
from api.models.base import JSON_TYPE, utcnow


class WebhookDelivery(SQLModel, table=True):
    __tablename__ = "webhook_delivery"
    __table_args__ = (
        Index("ix_webhook_delivery_due", "status", "due_at"),
        Index("ix_webhook_delivery_finished", "finished_at"),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    """The `webhook-id` of every attempt, by which a receiver knows one that it already has."""
    job_id: UUID = Field(index=True)
    type: str
    url: str
    """May hold a secret: only `receiver` is ever shown."""
    receiver: str
    """Scheme, host and port."""
    body: str
    """As it is signed and sent, byte for byte."""
    status: str = DeliveryStatus.PENDING.value
    attempt: int = 0
    """How often it was tried since it was recorded, or since it was last asked for again."""
    due_at: datetime = Field(default_factory=utcnow)
    """When it is tried next, while it is pending."""
    lease_until: datetime | None = None
    """Whoever tries it now has until then; also which try this is: nobody else may write how it went."""
    log: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON_TYPE)
    """The last attempts, oldest first."""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    finished_at: datetime | None = None
