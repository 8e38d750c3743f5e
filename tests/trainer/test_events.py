"""Reading a file of events that is not as it should be."""

from api.trainer.events import follow, read_events
from api.trainer.messages import Completed, Ignored
from api.trainer.workdir import Workdir

GOOD = (
    b'{"seq":1,"time":2.5,"message":'
    b'{"type":"lifecycle.stage","stage":{"key":"training_complete","status":"completed"}}}\n'
)


def test_before_the_first_event_there_is_none(workdir: Workdir) -> None:
    assert read_events(workdir) == []


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(workdir: Workdir) -> None:
    workdir.run.mkdir()
    workdir.events.write_bytes(GOOD + GOOD[:50])

    (event,) = read_events(workdir)
    assert (event.seq, event.time, event.message, event.offset) == (1, 2.5, Completed(), len(GOOD))
    assert read_events(workdir, event.offset) == []

    workdir.events.write_bytes(GOOD + GOOD)
    assert [e.offset for e in read_events(workdir, event.offset)] == [2 * len(GOOD)]


def test_a_damaged_line_is_passed_over(workdir: Workdir) -> None:
    workdir.run.mkdir()
    damaged = [b"\n", b"{\n", b"[]\n", b"\xff\n", b'{"seq":"x","time":1,"message":1}\n', b'{"seq":1}\n', b"5\n"]
    workdir.events.write_bytes(b"".join(damaged) + GOOD)

    events = read_events(workdir)

    assert [type(event.message) for event in events] == [Ignored] * len(damaged) + [Completed]


async def test_following_a_folder_in_which_nothing_ever_ran_ends_at_once(workdir: Workdir) -> None:
    assert [event async for event in follow(workdir)] == []
