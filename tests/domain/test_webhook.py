"""What is told of a job's end, its signature, and when it is tried again."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from api.domain.webhook import LONGEST_DELAY_SECONDS, MAX_ATTEMPTS, is_taken, message, retry_seconds, signature
from api.webhook_address import signing_keys
from tests.receiver import SECRET

OTHER = "whsec_" + "b3RoZXIh" * 4


def headers(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    now = int(time.time())
    signed = signature(signing_keys(secret), message_id, now, body)
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signed}


@given(st.text(st.characters(codec="utf-8")))
def test_the_library_of_standard_webhooks_takes_the_signature(text: str) -> None:
    body = text.encode()

    Webhook(SECRET).verify(body, headers(SECRET, "1", body), json_parse=False)


def test_any_other_body_id_or_key_is_refused() -> None:
    made = headers(SECRET, "1", b"{}")
    for body, changed, secret in (
        (b"{ }", made, SECRET),
        (b"{}", {**made, "webhook-id": "2"}, SECRET),
        (b"{}", {**made, "webhook-timestamp": str(int(made["webhook-timestamp"]) - 1)}, SECRET),
        (b"{}", made, OTHER),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, changed)


def test_while_a_secret_is_changed_receivers_of_both_take_it() -> None:
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(b"{}", headers(f"{SECRET} {OTHER}", "1", b"{}")) == {}


def test_the_body_is_shaped_as_the_standard_has_it() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert message("image.failed", at, {"a": 1}) == {
        "type": "image.failed",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "data": {"a": 1},
    }


def test_it_is_tried_ever_more_seldom_and_given_up_after_more_than_a_day() -> None:
    delays = [retry_seconds(attempt, 0.5) for attempt in range(1, MAX_ATTEMPTS + 1)]

    assert delays[:4] == [5, 20, 80, 320]
    assert delays[-2:] == [LONGEST_DELAY_SECONDS, None]
    assert sum(delay for delay in delays if delay is not None) > 24 * 3600


@given(st.integers(1, MAX_ATTEMPTS - 1), st.floats(0, 1))
def test_attempts_that_failed_together_are_not_all_repeated_together(attempt: int, luck: float) -> None:
    middle, found = retry_seconds(attempt, 0.5), retry_seconds(attempt, luck)
    assert middle is not None
    assert found is not None
    assert middle * 0.75 <= found <= middle * 1.25
    assert luck == 0.5 or retry_seconds(attempt, 0) != retry_seconds(attempt, 1)


def test_only_2xx_says_that_the_receiver_has_it() -> None:
    assert [code for code in (100, 199, 200, 202, 299, 300, 301, 302, 307, 400, 410, 500) if is_taken(code)] == [
        200,
        202,
        299,
    ]
