"""How many looks without a sign of life make a child a hung one."""

from api.domain.silence import Silence


def test_a_child_that_falls_silent_hangs_after_so_many_looks() -> None:
    silence = Silence(3, 3)
    assert [silence.look(sign) for sign in (True, False, False, False)] == [False, False, False, True]


def test_every_sign_gives_it_all_its_time_again() -> None:
    silence = Silence(2, 2)
    assert not any(silence.look(sign) for sign in (True, False, True, False, True, False))


def test_the_first_sign_may_take_longer() -> None:
    silence = Silence(1, 4)
    assert [silence.look(False) for _ in range(4)] == [False, False, False, True]


def test_after_the_first_sign_it_is_as_quick_as_ever() -> None:
    silence = Silence(2, 100)
    assert [silence.look(sign) for sign in (True, False, False)] == [False, False, True]
