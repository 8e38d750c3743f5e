"""Starting, finding again, following and stopping trainers, under their runner."""

import asyncio
import json
import os
import signal
import sys

import psutil
import pytest

from api.errors import ConflictError, EngineError, RetryableError
from api.processes import process_start
from api.trainer.events import follow, read_events
from api.trainer.messages import Completed, Ignored, Interrupted, Step
from api.trainer.outcome import read_exit
from api.trainer.process import RunnerHandle, find, recall, start
from api.trainer.workdir import Workdir, write_json
from tests.trainer.conftest import told, until

RUN = [("steps", 3), ("complete", None)]


async def start_waiting(workdir: Workdir, *before: tuple[str, object], grace: float = 10) -> RunnerHandle:
    handle = await start(workdir, told(*before, ("wait", None)), job_id="job", grace=grace)
    await until((workdir.root / "waiting").exists)
    return handle


async def test_every_message_is_kept_in_order_and_the_end_is_written_last(workdir: Workdir) -> None:
    handle = await start(workdir, told(*RUN), job_id="job")

    events = [event async for event in follow(workdir)]

    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [m.step for e in events if isinstance(m := e.message, Step)] == [1, 2, 3]
    assert events[-1].message == Completed()
    end = read_exit(workdir)
    assert end is not None
    assert (end.returncode, end.signal, end.requested, end.events, end.events_lost) == (0, None, False, 4, 0)
    assert end.started_at <= events[0].time <= events[-1].time <= end.ended_at
    await until(handle.gone)


async def test_following_goes_on_from_any_offset_without_a_gap(workdir: Workdir) -> None:
    await start(workdir, told(("steps", 50), ("complete", None)), job_id="job")
    events = [event async for event in follow(workdir)]

    for known in (events[0], events[24], events[-1]):
        again = [event async for event in follow(workdir, known.offset)]
        assert [event.seq for event in again] == list(range(known.seq + 1, 52))


async def test_more_events_than_one_reading_takes_are_all_followed(workdir: Workdir) -> None:
    await start(workdir, told(("steps", 1200), ("complete", None)), job_id="job")

    assert [event.seq async for event in follow(workdir)] == list(range(1, 1202))


async def test_events_are_followed_while_the_trainer_runs(workdir: Workdir) -> None:
    handle = await start_waiting(workdir, ("steps", 1))

    first = await anext(aiter(follow(workdir, poll_seconds=0.01)))

    assert isinstance(first.message, Step)
    assert handle.alive()


async def test_a_run_is_found_again_by_anyone_and_forgotten_by_none(workdir: Workdir) -> None:
    assert find(workdir) is None
    handle = await start_waiting(workdir)

    assert find(workdir) == handle
    await handle.stop()

    assert find(workdir) is None
    assert recall(workdir) == handle


async def test_the_trainer_outlives_the_process_that_started_it(workdir: Workdir) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from api.trainer.process import start;"
        "from api.trainer.workdir import Workdir; from tests.trainer.conftest import told;"
        "asyncio.run(start(Workdir(Path(sys.argv[1])), told(('wait', None)), job_id='job'))"
    )
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(workdir.root), start_new_session=True
    )
    assert await starter.wait() == 0

    handle = find(workdir)

    assert handle is not None
    assert process_start(handle.trainer_pid) is not None
    assert os.getsid(handle.trainer_pid) == handle.pid != starter.pid


async def test_a_pid_that_another_process_has_now_is_not_taken_for_ours(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)
    await handle.stop()
    record = json.loads(workdir.runner.read_text())
    workdir.runner.write_text(json.dumps(record | {"pid": os.getpid(), "trainer_pid": os.getpid()}))

    stranger = recall(workdir)

    assert stranger is not None
    assert stranger.gone()
    await stranger.stop()  # and this process still lives


async def test_nothing_of_an_earlier_boot_is_alive(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)
    record = json.loads(workdir.runner.read_text())
    workdir.runner.write_text(json.dumps(record | {"boot_id": "another"}))

    assert find(workdir) is None
    await handle.stop()


async def test_stopping_interrupts_the_trainer_and_leaves_nothing(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)

    await handle.stop()

    assert handle.gone()
    assert [event.message async for event in follow(workdir)] == [Interrupted()]
    end = read_exit(workdir)
    assert end is not None
    assert (end.requested, end.returncode) == (True, 0)


async def test_a_trainer_that_does_not_stop_is_killed_by_its_runner(workdir: Workdir) -> None:
    handle = await start_waiting(workdir, ("ignore_sigint", None), grace=0.2)

    await handle.stop()

    end = read_exit(workdir)
    assert end is not None
    assert (end.requested, end.signal) == (True, signal.SIGKILL)


async def test_whoever_stops_it_may_be_more_impatient_than_the_runner(workdir: Workdir) -> None:
    handle = await start_waiting(workdir, ("ignore_sigint", None), grace=600)

    await handle.stop(0.2)

    end = read_exit(workdir)
    assert end is not None
    assert (end.requested, end.signal) == (True, signal.SIGKILL)


async def test_a_frozen_trainer_under_a_frozen_runner_is_stopped(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)
    os.kill(handle.pid, signal.SIGSTOP)
    os.killpg(handle.trainer_pid, signal.SIGSTOP)

    await handle.stop()

    end = read_exit(workdir)
    assert end is not None
    assert (end.requested, end.returncode) == (True, 0)


async def test_a_frozen_trainer_does_nothing_and_loses_nothing(workdir: Workdir) -> None:
    trainer = told(("wait_for", "go"), ("steps", 400), ("child", False), ("wait", None))
    handle = await start(workdir, trainer, job_id="job")
    waiting = workdir.root / "waiting"
    await until(waiting.exists)
    waiting.unlink()
    (workdir.root / "go").touch()
    frozen = 0
    while not waiting.exists():
        handle.freeze_trainer()
        await until(lambda: handle.look().stopped)
        frozen += 1
        handle.thaw_trainer()
        await until(lambda: not handle.look().stopped)

    assert frozen > 1
    assert [event.seq for event in read_events(workdir)] == list(range(1, 401))


async def test_freezing_reaches_every_process_of_the_trainer(workdir: Workdir) -> None:
    handle = await start_waiting(workdir, ("child", False))

    handle.freeze_trainer()

    pids = handle.look().pids
    assert len(pids) == 2
    await until(lambda: {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED})
    assert psutil.Process(handle.pid).status() != psutil.STATUS_STOPPED


async def test_what_the_trainer_has_computed_is_seen(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)

    measured = psutil.Process(handle.trainer_pid).cpu_times()

    assert handle.look().cpu_seconds == pytest.approx(measured.user + measured.system, abs=0.05)
    assert handle.look().cpu_seconds > 0


async def test_stopping_twice_and_stopping_what_has_ended_do_nothing(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)

    await asyncio.gather(handle.stop(), handle.stop())
    await handle.stop()

    assert handle.gone()


@pytest.mark.parametrize("own_session", [False, True], ids=["in its group", "in a session of its own"])
async def test_children_that_a_trainer_leaves_behind_end_with_it(workdir: Workdir, own_session: bool) -> None:
    await start(workdir, told(("child", own_session), ("steps", 1)), job_id="job")

    async for _ in follow(workdir):
        pass

    assert process_start(int((workdir.root / "child.pid").read_text())) is None


async def test_when_the_runner_is_killed_the_trainer_dies_with_it(workdir: Workdir) -> None:
    handle = await start_waiting(workdir, ("steps", 2))

    os.kill(handle.pid, signal.SIGKILL)
    events = [event async for event in follow(workdir)]

    assert [event.seq for event in events] == [1, 2]
    assert read_exit(workdir) is None
    await until(lambda: process_start(handle.trainer_pid) is None)


async def test_children_left_by_a_killed_runner_are_ended_by_stop(workdir: Workdir) -> None:
    handle = await start_waiting(workdir, ("child", False))
    child = int((workdir.root / "child.pid").read_text())

    os.kill(handle.pid, signal.SIGKILL)
    await until(lambda: process_start(handle.trainer_pid) is None)
    assert not handle.gone()
    await handle.stop()

    assert process_start(child) is None


async def test_two_trainers_never_share_a_folder(workdir: Workdir) -> None:
    await start_waiting(workdir)

    with pytest.raises(ConflictError, match="already runs") as caught:
        await start(workdir, told(), job_id="job")

    assert caught.value.code == "trainer_running"


async def test_a_later_run_keeps_the_files_of_the_earlier_ones(workdir: Workdir) -> None:
    for steps in (1, 2, 3):
        await start(workdir, told(("steps", steps)), job_id="job")
        assert len([event async for event in follow(workdir)]) == steps
        handle = recall(workdir)
        assert handle is not None
        await until(handle.gone)

    assert sorted(path.name for path in workdir.root.glob("run*")) == ["run", "run-1", "run-2"]
    assert len((workdir.root / "run-2" / "events.jsonl").read_text().splitlines()) == 2


async def test_a_trainer_that_is_not_there_is_a_clear_error(workdir: Workdir) -> None:
    install = told()
    missing = type(install)(workdir.root / "no-python", install.train_py, install.version, gpu=False)

    with pytest.raises(EngineError, match=r"could not be started: FileNotFoundError.*no-python") as caught:
        await start(workdir, missing, job_id="job")

    assert caught.value.code == "trainer_not_started"
    assert find(workdir) is None


async def test_a_start_that_takes_too_long_may_be_tried_again(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.trainer.process.START_SECONDS", 0.0)
    with pytest.raises(RetryableError) as caught:
        await start(workdir, told(*RUN), job_id="job")
    assert caught.value.code == "trainer_start_slow"
    assert find(workdir) is None
    monkeypatch.undo()

    await start(workdir, told(*RUN), job_id="job")

    assert [event async for event in follow(workdir)][-1].message == Completed()


async def test_a_runner_that_is_not_ready_dies_with_the_process_that_waits_for_it(workdir: Workdir) -> None:
    write_json(workdir.spec, {"argv": ["/bin/sleep", "60"], "env": {}, "grace_seconds": 1, "webhook": {}})
    os.mkfifo(workdir.stdout)  # who opens it waits: a very slow disk
    starter = await asyncio.create_subprocess_exec(sys.executable, "-m", "api.trainer.runner", str(workdir.root))
    await until(workdir.webhook.exists)
    (runner,) = psutil.Process(starter.pid).children()

    starter.kill()
    await starter.wait()

    await until(lambda: process_start(runner.pid) is None)
    assert recall(workdir) is None


async def test_a_trainer_may_be_interrupted_even_if_we_were_started_in_the_background(workdir: Workdir) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `command &`
    try:
        handle = await start_waiting(workdir)
    finally:
        signal.signal(signal.SIGINT, before)

    await handle.stop()

    end = read_exit(workdir)
    assert end is not None
    assert (end.returncode, end.signal) == (0, None)


async def test_bad_messages_are_answered_and_never_end_a_run(workdir: Workdir) -> None:
    bad = ["", "{", "\x00", "[1]", '"text"', "null", "[" * 100_000, '{"type": 5}']
    actions = [("post_raw", text) for text in bad]
    await start(workdir, told(*actions, ("post_elsewhere", None), *RUN), job_id="job")

    events = [event async for event in follow(workdir)]

    assert [isinstance(event.message, Ignored) for event in events] == [True] * len(bad) + [False] * 4
    assert workdir.stdout.read_text().split("\n")[:-1] == ["answered 200"] * len(bad) + ["answered 404"]


async def test_pictures_are_counted_and_not_copied_into_the_events(workdir: Workdir) -> None:
    body = {"type": "training.validation", "images": ["iVBORw0KGgo=" * 1000] * 3}
    await start(workdir, told(("post", body)), job_id="job")

    async for _ in follow(workdir):
        pass

    assert json.loads(workdir.events.read_text())["message"] == {"type": "training.validation", "images": 3}


async def test_the_service_has_no_child_to_wait_for(workdir: Workdir) -> None:
    handle = await start_waiting(workdir)

    assert psutil.Process(handle.pid).ppid() != os.getpid()
