"""What a pending job is told: its place, the training it waits for, and a time only when one is known."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from api.domain.job import Kind
from api.domain.queueing import Pace, Place, Running, Waiting, ordinal, pace, places

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PACE = Pace(picture_seconds=10, step_seconds=0.5)
TRAINING = Running(Kind.TRAINING, "me", total_steps=1000, elapsed_seconds=100, eta_seconds=700)
PICTURE = Running(Kind.IMAGE)


def picture() -> Waiting:
    return Waiting(uuid4(), Kind.IMAGE)


def training(name: str = "you", total_steps: int = 200) -> Waiting:
    return Waiting(uuid4(), Kind.TRAINING, name, total_steps)


def told(
    waiting: list[Waiting], running: list[Running], pace: Pace = PACE, *, shares: bool = False
) -> list[tuple[float | None, str | None]]:
    """(eta, behind) of each, in order."""
    found = places(waiting, running, pace, shares=shares)
    assert [found[job.id].position for job in waiting] == list(range(1, len(waiting) + 1))
    return [(found[job.id].eta_seconds, found[job.id].behind) for job in waiting]


def test_behind_a_training_everybody_waits_for_its_end_and_for_those_before() -> None:
    assert told([picture(), picture(), picture()], [TRAINING]) == [(700, "me"), (700, "me"), (710, "me")]


def test_a_picture_begins_while_the_one_before_it_is_drawn_and_a_training_when_all_are_done() -> None:
    assert told([picture(), picture()], [PICTURE, PICTURE]) == [(10, None), (20, None)]
    assert told([training()], [PICTURE, PICTURE]) == [(20, None)]
    assert told([picture()], [PICTURE]) == [(0, None)]


def test_a_training_in_the_queue_holds_up_those_behind_it_by_its_steps() -> None:
    assert told([picture(), training(), picture(), training("third")], [TRAINING]) == [
        (700, "me"),
        (710, "me"),
        (810, "you"),
        (820, "you"),
    ]


def test_a_training_that_has_not_said_when_it_ends_is_known_by_its_steps() -> None:
    starting = Running(Kind.TRAINING, "me", total_steps=1000, elapsed_seconds=100)

    assert told([picture()], [starting]) == [(400, "me")]
    assert told([picture()], [Running(Kind.TRAINING, "me", 1000, elapsed_seconds=900)]) == [(0, "me")]


@pytest.mark.parametrize("running", [[Running(Kind.TRAINING, "me", 1000)], [PICTURE]])
def test_without_a_past_no_time_is_invented(running: list[Running]) -> None:
    assert [eta for eta, _ in told([picture(), training()], running, Pace())] == [None, None]


def test_what_is_behind_something_unknown_is_unknown() -> None:
    assert told([picture(), training(), picture()], [TRAINING], Pace(picture_seconds=10)) == [
        (700, "me"),
        (710, "me"),
        (None, "you"),
    ]


def test_where_nothing_runs_nobody_knows_whether_it_soon_will() -> None:
    assert told([picture(), picture()], []) == [(None, None), (None, None)]


def test_a_picture_that_may_be_drawn_beside_the_training_is_not_said_to_wait_for_it() -> None:
    waiting = [picture(), training(), training("third")]

    assert told(waiting, [TRAINING, PICTURE], shares=True) == [(None, None), (710, "me"), (810, "you")]


# ---- pace --------------------------------------------------------------------------------------------------------


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def test_a_pictures_own_time_begins_when_the_one_before_it_has_ended() -> None:
    overlapping = [(at(0), at(10)), (at(1), at(20)), (at(10), at(30)), (at(100), at(110))]

    assert pace(reversed(overlapping), []) == Pace(10.0, None)


def test_a_trainings_time_is_counted_by_the_step_and_one_that_slept_over_night_does_not_spoil_it() -> None:
    trainings = [(at(0), at(100), 200), (at(0), at(50), 100), (at(0), at(40_000), 100), (at(0), at(1), 0)]

    assert pace([], trainings) == Pace(None, 0.5)


# ---- in words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (Place(1), "Waiting: next in the queue"),
        (Place(3, 720, "me"), "Waiting: 3rd in the queue, behind the training 'me' (about 12 min)"),
        (Place(2, 20), "Waiting: 2nd in the queue (less than a minute)"),
        (Place(2, 7800), "Waiting: 2nd in the queue (about 2 h 10 min)"),
        (Place(2, 7200), "Waiting: 2nd in the queue (about 2 h)"),
    ],
)
def test_it_is_said_in_a_sentence(place: Place, message: str) -> None:
    assert place.message == message


def test_ordinals() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 101, 111, 112)
    assert " ".join(map(ordinal, numbers)) == "1st 2nd 3rd 4th 11th 12th 13th 21st 101st 111th 112th"
