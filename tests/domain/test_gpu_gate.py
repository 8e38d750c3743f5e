"""Who may use the GPU: a training alone, two pictures, or both when they share and the memory suffices."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.gpu_gate import MARGIN_GB, GpuGate, Memory, Use
from api.domain.job import Kind, Queue

DRAWING, TRAINING = 10.0, 30.0


def picture(free: float | None = None, held: float = 0.0, need: float = DRAWING) -> Use:
    return Use(uuid4(), Kind.IMAGE, need, None if free is None else Memory(free, held))


def training(free: float | None = None, held: float = 0.0) -> Use:
    return Use(uuid4(), Kind.TRAINING, TRAINING, None if free is None else Memory(free, held))


# ---- alone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [False, True])
def test_two_pictures_share_the_gpu_and_a_third_waits(shares: bool) -> None:
    gate = GpuGate(shares=shares)
    leave = gate.enter(picture())
    gate.enter(picture())

    assert not gate.admits(picture())
    leave()
    assert gate.admits(picture())


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("free", [None, 1000.0])
def test_a_training_is_alone_unless_the_gpu_is_shared_and_measured(shares: bool, free: float | None) -> None:
    together = shares and free is not None
    gate = GpuGate(shares=shares)
    leave = gate.enter(picture(free))
    assert gate.admits(training(free)) == together
    leave()

    leave = gate.enter(training(free))

    assert gate.admits(picture(free)) == together
    assert not gate.admits(training(free))
    leave()
    assert gate.admits(picture())
    assert gate.admits(training())


def test_entering_without_being_admitted_is_a_bug() -> None:
    gate = GpuGate()
    gate.enter(training())

    with pytest.raises(RuntimeError, match="does not admit"):
        gate.enter(picture())


def test_a_job_leaves_once_and_never_for_its_later_attempt() -> None:
    gate, use = GpuGate(), training()
    leave = gate.enter(use)
    assert leave()
    again = Use(use.job_id, use.kind)
    gate.enter(again)

    assert not leave()

    assert not gate.admits(picture())


ON_GPU = [kind for kind in Kind if kind.queue is Queue.GPU]


@given(st.lists(st.tuples(st.sampled_from(ON_GPU), st.booleans(), st.floats(0, 80)), max_size=30), st.booleans())
def test_the_gpu_never_holds_more_than_it_may(steps: list[tuple[Kind, bool, float]], shares: bool) -> None:
    gate, inside = GpuGate(shares=shares), list[tuple[Kind, Callable[[], bool]]]()
    for kind, entering, free in steps:
        use = picture(free) if kind is Kind.IMAGE else training(free)
        if entering and gate.admits(use):
            inside.append((kind, gate.enter(use)))
        elif not entering and inside:
            inside.pop(0)[1]()
        kinds = [kind for kind, _ in inside]
        assert kinds.count(Kind.TRAINING) <= 1
        assert kinds.count(Kind.IMAGE) <= 2
        assert shares or Kind.TRAINING not in kinds or len(kinds) == 1


# ---- together ----------------------------------------------------------------------------------------------------


def beside_training(before: tuple[float, float], now: tuple[float, float]) -> bool:
    """Whether a picture enters with `now` when the training entered with `before`: (free, held by ComfyUI)."""
    gate = GpuGate(shares=True)
    gate.enter(training(*before))
    return gate.admits(picture(*now))


ENOUGH = TRAINING + DRAWING + MARGIN_GB


def test_a_picture_is_drawn_beside_a_training_when_both_fit() -> None:
    assert beside_training((ENOUGH, 0), (ENOUGH - TRAINING, 0))
    assert not beside_training((ENOUGH - 0.1, 0), (ENOUGH, 0))


def test_a_training_that_has_not_yet_taken_its_memory_counts_in_full() -> None:
    assert not beside_training((TRAINING + MARGIN_GB, 0), (TRAINING + MARGIN_GB, 0))


def test_a_training_that_takes_more_than_foreseen_leaves_less() -> None:
    assert not beside_training((100, 0), (DRAWING, 0))


def test_what_comfyui_holds_already_need_not_be_free() -> None:
    assert beside_training((TRAINING + MARGIN_GB, DRAWING), (MARGIN_GB, DRAWING))


def test_one_picture_at_a_time_is_drawn_beside_a_training() -> None:
    gate = GpuGate(shares=True)
    gate.enter(training(1000))
    leave = gate.enter(picture(1000))

    assert not gate.admits(picture(1000))
    leave()
    assert gate.admits(picture(1000))


@pytest.mark.parametrize(
    ("free", "held", "admitted"),
    [
        (ENOUGH, 0.0, True),
        (ENOUGH - 0.1, 0.0, False),  # ComfyUI will take what it needs
        (TRAINING + MARGIN_GB, DRAWING, True),  # it has it
        (TRAINING + MARGIN_GB, DRAWING + 5, True),
        (TRAINING + MARGIN_GB - 0.1, DRAWING + 5, False),  # what it holds beyond its need it keeps
    ],
)
def test_a_training_begins_beside_pictures_when_both_fit(free: float, held: float, admitted: bool) -> None:
    gate = GpuGate(shares=True)
    gate.enter(picture(100))
    gate.enter(picture(100, need=1.0))

    assert gate.admits(training(free, held)) == admitted


def test_only_while_a_training_shares_the_gpu_do_pictures_pass_the_next_one() -> None:
    for shares in (False, True):
        gate = GpuGate(shares=shares)
        assert not gate.shares_with_training
        leave = gate.enter(training())
        assert gate.shares_with_training == shares
        leave()
        gate.enter(picture())
        assert not gate.shares_with_training


# ---- who holds it ------------------------------------------------------------------------------------------------


def test_it_says_who_holds_it() -> None:
    gate, first, second = GpuGate(shares=True), training(1000), picture(1000)
    assert gate.state() == {"mode": "idle", "jobs": []}

    leave = gate.enter(first)
    assert gate.state() == {"mode": "alone", "jobs": [_shown(first.job_id, "training")]}
    gate.enter(second)
    assert gate.state()["mode"] == "shared"
    leave()
    assert gate.state() == {"mode": "shared", "jobs": [_shown(second.job_id, "image")]}


def _shown(job_id: UUID, kind: str) -> dict[str, str]:
    return {"id": str(job_id), "kind": kind}
