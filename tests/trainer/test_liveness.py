"""A trainer hangs when it neither says nor does anything for a quarter of an hour."""

import pytest

from api.trainer.liveness import CPU_SIGN_SECONDS, HUNG_SECONDS, LastSign

SEEN = LastSign(said=1000, cpu_seconds=50.0)


def silence(sign: LastSign, seconds: float) -> LastSign:
    for _ in range(int(seconds / 2)):
        sign = sign.after(2.0, sign.said, sign.cpu_seconds)
    return sign


def test_silence_and_idleness_for_a_quarter_of_an_hour_is_a_hang() -> None:
    assert not silence(SEEN, HUNG_SECONDS - 2).hung
    assert silence(SEEN, HUNG_SECONDS).hung


@pytest.mark.parametrize(
    ("said", "cpu_seconds"),
    [(1001, 50.0), (0, 50.0), (1000, 50.0 + CPU_SIGN_SECONDS), (1000, 49.0)],
    ids=["a message", "messages of a new run", "work", "a process that ended"],
)
def test_any_sign_of_life_starts_the_silence_anew(said: int, cpu_seconds: float) -> None:
    sign = silence(SEEN, HUNG_SECONDS - 2).after(2.0, said, cpu_seconds)
    assert (sign.hung, sign.silent_seconds) == (False, 0.0)


def test_idling_adds_up_to_work_only_when_it_does() -> None:
    sign = SEEN
    for look in range(1, 450):
        sign = sign.after(2.0, 1000, 50.0 + look * CPU_SIGN_SECONDS / 1000)
    assert sign.silent_seconds == 898.0
    assert sign.after(2.0, 1000, 50.0 + CPU_SIGN_SECONDS).silent_seconds == 0.0
