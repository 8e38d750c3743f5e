"""Webhooks as their owner sees them: whom a new job tells of its end, and what became of it."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api import webhook_address
from api.domain.addresses import is_literal, may_reach
from api.errors import ConflictError, InputError, NotFoundError
from api.models import WebhookDelivery
from api.services import outbox
from api.settings import Settings, is_loopback


def receiver(settings: Settings, url: str | None) -> str | None:
    """Whom a job asked for now tells of its end: the request's URL, else the setting's; None: nobody.

    Names are looked up when it is told, and judged again. Raises InputError `webhook_url_invalid`,
    `webhook_address_private`, or `webhook_secret_missing`.
    """
    if url is None:
        return settings.masuka_webhook_url.get_secret_value() or None
    try:
        webhook_address.require_url(url)
    except ValueError as exc:
        raise InputError(f"webhook_url {exc}.", code="webhook_url_invalid", hint="Send a whole URL, or none.") from exc
    if not settings.webhook_keys:
        raise InputError(
            "Webhooks are signed, and there is no secret to sign them with.",
            code="webhook_secret_missing",
            hint="Set MASUKA_WEBHOOK_SECRET.",
        )
    host = webhook_address.host_of(url)
    if not is_trusted(settings, url) and _is_refused(host, private=settings.masuka_webhook_private):
        raise InputError(
            "webhook_url leads to a private address.",
            code="webhook_address_private",
            value=host,
            hint="Set MASUKA_WEBHOOK_URL to it, or MASUKA_WEBHOOK_PRIVATE=true.",
        )
    return url


def is_trusted(settings: Settings, url: str) -> bool:
    """The owner has set it himself: wherever it leads is where he wants it."""
    return url == settings.masuka_webhook_url.get_secret_value()


def _is_refused(host: str, *, private: bool) -> bool:
    if is_literal(host):
        return not may_reach(host, private=private)
    return is_loopback(host) and not private


async def get(session: AsyncSession, delivery_id: UUID) -> WebhookDelivery:
    """The delivery as it is now. Raises NotFoundError."""
    found = await session.get(WebhookDelivery, delivery_id, populate_existing=True)
    if found is None:
        raise NotFoundError(
            "There is no webhook delivery with this id.", code="delivery_not_found", value=str(delivery_id)
        )
    return found


async def redeliver(session: AsyncSession, delivery_id: UUID) -> WebhookDelivery:
    """Deliver it again, or at once; the receiver gets the same message under the same `webhook-id`.

    Raises NotFoundError, and ConflictError `delivery_active` while it is being sent.
    """
    again = await outbox.ask_again(session, delivery_id)
    if again is not None:
        return again
    await get(session, delivery_id)
    raise ConflictError(
        "This webhook is being sent at this moment.",
        code="delivery_active",
        value=str(delivery_id),
        hint="Look at it again in half a minute.",
    )
