import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import psutil
import pytest

from api.comfy import child
from api.comfy.process import accepts, end_group, free_port, guard
from api.processes import describe_exit
from tests.waiting import until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
FORKS = (
    "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(p.pid, flush=True); time.sleep(60)"
)

LEAVES_ONE = FORKS.replace("'])", "'], start_new_session=True)")

STARTS_A_CHILD = (
    "import os, subprocess, sys, time;"
    "command = [sys.executable, sys.argv[1], str(os.getpid()), '-c', 'import time; time.sleep(60)'];"
    "print(subprocess.Popen(command).pid, flush=True); time.sleep(60)"
)


async def start(*command: str) -> tuple[Process, bytes]:
    """A process that leads a group, and the first line it printed."""
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, start_new_session=True)
    assert process.stdout is not None
    return process, await process.stdout.readline()


async def closed(process: Process) -> None:
    """When nobody holds its pipe any more."""
    assert process.stdout is not None
    await process.stdout.read()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_ending_a_group_ends_the_processes_that_its_leader_started():
    process, line = await start("-c", FORKS)
    await end_group(process)
    await until(lambda: gone(int(line)))
    await closed(process)
    assert process.returncode == -signal.SIGTERM


async def test_a_process_that_ignores_being_asked_is_killed(monkeypatch):
    monkeypatch.setattr("api.comfy.process._GRACE_SECONDS", 0.05)
    process, _ = await start("-c", STUBBORN)
    await end_group(process)
    assert process.returncode == -signal.SIGKILL


async def test_a_process_that_somebody_has_stopped_ends_at_once():
    process, _ = await start("-c", "import time; print('up', flush=True); time.sleep(60)")
    process.send_signal(signal.SIGSTOP)
    await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    await end_group(process)
    assert process.returncode == -signal.SIGTERM


async def test_a_process_that_somebody_has_stopped_is_woken_with_what_it_started():
    process, line = await start("-c", FORKS)
    started = psutil.Process(int(line))
    os.killpg(process.pid, signal.SIGSTOP)
    await until(lambda: started.status() == psutil.STATUS_STOPPED)
    guarding = asyncio.create_task(guard(process))
    await until(lambda: psutil.STATUS_STOPPED not in (started.status(), psutil.Process(process.pid).status()))
    await end_group(process)
    async with asyncio.timeout(5):
        await guarding
        await closed(process)


async def test_nothing_is_sent_to_a_pid_whose_process_has_ended(monkeypatch):
    process, _ = await start("-c", "")
    await process.wait()
    sent = []
    monkeypatch.setattr(os, "killpg", lambda *signal_to: sent.append(signal_to))
    await end_group(process)
    assert not sent


async def test_what_a_process_that_dies_by_itself_leaves_behind_is_killed_at_once():
    process, line = await start("-c", FORKS)
    guarding = asyncio.create_task(guard(process))
    process.kill()
    async with asyncio.timeout(5):
        await guarding
        await closed(process)
    await until(lambda: gone(int(line)))


async def test_a_stranger_that_holds_the_pipe_keeps_nobody_waiting():
    process, line = await start("-c", LEAVES_ONE)
    stranger = psutil.Process(int(line))
    async with asyncio.timeout(4):
        await end_group(process)
    assert stranger.is_running()
    stranger.kill()
    await closed(process)


async def test_a_child_dies_with_the_process_that_started_it():
    parent, line = await start("-c", STARTS_A_CHILD, child.__file__)
    child_pid = int(line)
    await until(lambda: "import time; time.sleep(60)" in psutil.Process(child_pid).cmdline()[2:3])
    parent.kill()
    await parent.wait()
    await until(lambda: gone(child_pid))


async def test_a_child_whose_starter_is_gone_does_not_start(tmp_path: Path):
    started = tmp_path / "started"
    process = await asyncio.create_subprocess_exec(
        sys.executable, child.__file__, str(os.getpid() + 1), "-c", f"open({str(started)!r}, 'w')", stderr=PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"gone already" in said
    assert not started.exists()


@pytest.mark.parametrize(
    ("returncode", "said"), [(0, "exit status 0"), (-15, "SIGTERM"), (-9, "SIGKILL, perhaps out of memory")]
)
def test_an_exit_is_described_for_people(returncode, said):
    assert describe_exit(returncode) == said


async def test_a_port_accepts_only_while_somebody_listens():
    port = free_port()
    assert not await accepts(port)
    with socket.create_server(("127.0.0.1", port)):
        assert await accepts(port)
    assert not await accepts(port)
