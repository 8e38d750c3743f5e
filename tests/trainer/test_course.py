"""The course of a run by its messages."""

from typing import Any

from api.domain.curve import Point
from api.trainer.course import CourseReader
from api.trainer.events import Event
from api.trainer.messages import CheckpointSaved, Message, Stage, Step


def step(number: int, loss: float | None = 1.0, **more: Any) -> Step:
    about: dict[str, Any] = {"learning_rate": 0.1, "epoch": 1, "eta_seconds": None, "resumed_at": 0, **more}
    return Step(step=number, total=100, loss=loss, **about)


def ended(key: str) -> Stage:
    return Stage(key=key, label=None, status="completed", current=None, total=None)


def read(*said: tuple[float, Message]) -> CourseReader:
    reader = CourseReader()
    for number, (at, message) in enumerate(said):
        reader.take(Event(number, number, at, message))
    return reader


def test_each_step_is_a_point_with_what_it_took() -> None:
    course = read((10.0, step(0, loss=None)), (12.0, step(1, 0.5)), (13.0, step(2, 0.4))).news()
    assert course.points == [Point(1, 12.0, 0.5, 0.1, 2.0), Point(2, 13.0, 0.4, 0.1, 1.0)]


def test_the_step_that_a_run_resumes_at_is_not_done_again() -> None:
    course = read((1.0, step(250, 0.1, resumed_at=250)), (2.0, step(251, 0.5, resumed_at=250))).news()
    assert [(point.step, point.seconds) for point in course.points] == [(251, 1.0)]


def test_saving_and_drawing_are_not_time_of_the_next_step() -> None:
    said: list[tuple[float, Message]] = [
        (10.0, step(1)),
        (11.0, step(2)),
        (15.0, ended("checkpoint_save")),
        (30.0, ended("validation")),
    ]
    course = read(*said, (31.5, step(3))).news()
    assert [point.seconds for point in course.points] == [None, 1.0, 1.5]


def test_a_step_that_is_told_again_after_its_checkpoint_is_one() -> None:
    course = read((1.0, step(5)), (2.0, step(5)), (2.1, CheckpointSaved("/x/checkpoint-5"))).news()
    assert [(point.step, point.at) for point in course.points] == [(5, 1.0)]
    assert course.checkpoints == [5]


def test_news_are_told_once() -> None:
    reader = read((1.0, step(1)))
    assert len(reader.news().points) == 1
    assert reader.news().points == []
    reader.take(Event(9, 9, 2.0, step(2)))
    assert [point.step for point in reader.news().points] == [2]
