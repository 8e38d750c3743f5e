"""Wrong tokens: after so many a caller waits, and neither others nor time are held up by it."""

import pytest

from api.domain import door_cookie, tries
from api.domain.tries import OVERALL, PER_ADDRESS, WINDOW_SECONDS, Tries, group


def test_one_address_waits_when_it_has_tried_too_often_and_others_do_not() -> None:
    failed = Tries()
    assert [failed.failed("192.0.2.1", n) for n in range(PER_ADDRESS)] == [0] * PER_ADDRESS
    assert failed.failed("192.0.2.1", PER_ADDRESS) == WINDOW_SECONDS - PER_ADDRESS
    assert failed.failed("192.0.2.2", PER_ADDRESS) == 0


def test_whoever_keeps_trying_waits_no_longer_for_it() -> None:
    failed = Tries()
    for second in range(int(WINDOW_SECONDS)):
        failed.failed("192.0.2.1", second)
    assert failed.failed("192.0.2.1", WINDOW_SECONDS) == 0


def test_all_together_wait_when_the_tries_come_from_everywhere() -> None:
    failed = Tries()
    waits = [failed.failed(f"192.0.2.{n}", 0) for n in range(OVERALL + 1)]
    assert waits == [0] * OVERALL + [WINDOW_SECONDS]


def test_it_remembers_no_more_addresses_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "ADDRESSES", 3)
    failed = Tries()
    for n in range(50):
        failed.failed(f"192.0.2.{n}", n * WINDOW_SECONDS)
    assert len(failed._by_address) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("testclient", "", False),
    ],
)
def test_ipv6_customers_have_many_addresses(one: str, other: str, same: bool) -> None:
    assert (group(one) == group(other)) is same


def test_a_cookie_is_good_until_its_day_and_with_its_token_alone() -> None:
    cookie = door_cookie.made("token", 1000)
    until, _, signature = cookie.partition(".")
    assert "token" not in cookie
    assert door_cookie.is_good(cookie, "token", 1000)
    assert not door_cookie.is_good(cookie, "token", 1000 + door_cookie.SECONDS)
    assert not door_cookie.is_good(cookie, "another", 1000)
    for forged in (
        "",
        ".",
        "ключ",
        f"{int(until) + 1}.{signature}",
        f"{until}.{signature[:-1]}0",
        until,
        f"x.{signature}",
    ):
        assert not door_cookie.is_good(forged, "token", 1000)
