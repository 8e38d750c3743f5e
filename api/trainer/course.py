"""The course of a run, from its messages: a point for each step, and the steps at which it was saved."""

from api.domain.curve import Course, Point
from api.trainer.checkpoint import step_of
from api.trainer.events import Event, read_events
from api.trainer.messages import CheckpointSaved, Stage, Step
from api.trainer.workdir import Workdir

_BETWEEN_STEPS = frozenset({"checkpoint_save", "validation"})


class CourseReader:
    """Takes the events of one run in their order."""

    def __init__(self) -> None:
        self._points: dict[int, Point] = {}
        self._checkpoints: set[int] = set()
        self._since: float | None = None
        """When what lies between the last step and the next one was over."""
        self._step = 0

    def take(self, event: Event) -> None:
        match event.message:
            case Step() as step:
                self._take_step(step, event.time)
            case Stage(key=key, status="completed") if key in _BETWEEN_STEPS and self._since is not None:
                self._since = event.time
            case CheckpointSaved(path=path) if (saved := step_of(path)) is not None:
                self._checkpoints.add(saved)
            case _:
                pass

    def news(self) -> Course:
        """What came since it was asked for the last time."""
        course = Course(list(self._points.values()), sorted(self._checkpoints))
        self._points, self._checkpoints = {}, set()
        return course

    def _take_step(self, step: Step, at: float) -> None:
        """A step is told again after its checkpoint; the first message of a run tells where it begins, which 4.8 does
        with a loss when it resumes.
        """
        if step.step <= max(self._step, step.resumed_at) or step.loss is None:
            self._step = max(self._step, step.step)
            self._since = self._since or at
            return
        advanced = step.step - self._step
        seconds = None if self._since is None else round((at - self._since) / advanced, 4)
        self._points[step.step] = Point(step.step, round(at, 3), step.loss, step.learning_rate, seconds)
        self._step, self._since = step.step, at


def course_of(workdir: Workdir) -> Course:
    """Of all that the newest run has said so far."""
    reader, offset = CourseReader(), 0
    while events := read_events(workdir, offset):
        for event in events:
            reader.take(event)
        offset = events[-1].offset
    return reader.news()
