"""A kept process: restarted when it ends, ended when nobody wants it, logged while it lives."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from api import child, child_output, signs
from api.child import ChildSpec, keep
from api.errors import EX_CONFIG, ConfigError
from api.processes import process_start
from api.settings import PROJECT_ROOT
from api.signs import Watch
from tests.waiting import until

NAME = "child"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
OBEDIENT = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


@dataclass
class Told:
    lines: list[str] = field(default_factory=list)
    name: str = NAME

    def __call__(self, name: str, line: str) -> None:
        assert name == self.name
        self.lines.append(line)


@pytest.fixture
def told() -> Told:
    return Told()


def spec_of(tmp_path: Path, program: str, before: Callable[[], Awaitable[None]] | None = None) -> ChildSpec:
    return ChildSpec(NAME, (sys.executable, "-c", program), dict(os.environ), tmp_path / "logs" / "child.log", before)


@asynccontextmanager
async def kept(spec: ChildSpec, told: Told) -> AsyncIterator[asyncio.Task[int]]:
    task = asyncio.create_task(keep(spec, told))
    yield task
    task.cancel()
    await asyncio.wait({task})


async def test_what_ends_is_started_again_and_again_more_and_more_patiently(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "BACK_OFF_SECONDS", (0.01, 0.02, 0.03))
    async with kept(spec_of(tmp_path, "print('hello'); exit(3)"), told):
        await until(lambda: told.lines.count("hello") == 5)

    pauses = [line for line in told.lines if line != "hello"]
    assert [line.rpartition(" in ")[2] for line in pauses[:4]] == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]
    assert pauses[0] == "ended with code 3; starting it again in 0.01 s"


async def test_one_that_lived_long_is_started_again_at_once(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "BACK_OFF_SECONDS", (0.01, 3600))
    monkeypatch.setattr(child, "STABLE_SECONDS", 0)
    async with kept(spec_of(tmp_path, "print('hello')"), told):
        await until(lambda: told.lines.count("hello") == 3)


async def test_a_process_that_was_killed_is_started_again(tmp_path: Path, told: Told) -> None:
    async with kept(spec_of(tmp_path, OBEDIENT), told):
        await until(lambda: told.lines)
        os.kill(int(told.lines[0]), signal.SIGKILL)
        await until(lambda: len(told.lines) == 3)

    assert "code -9" in told.lines[1]


async def test_a_wrong_configuration_is_not_tried_again(tmp_path: Path, told: Told) -> None:
    assert await keep(spec_of(tmp_path, f"print('wrong'); exit({EX_CONFIG})"), told) == EX_CONFIG

    assert told.lines == ["wrong"]


async def test_a_program_that_is_not_there_is_a_wrong_configuration(tmp_path: Path, told: Told) -> None:
    spec = ChildSpec(NAME, ("/nowhere/valkey-server",), {}, tmp_path / "log")

    with pytest.raises(ConfigError, match="/nowhere/valkey-server cannot be started: No such file"):
        await keep(spec, told)


async def test_nobody_is_left_when_it_is_no_longer_wanted(tmp_path: Path, told: Told) -> None:
    async with kept(spec_of(tmp_path, OBEDIENT), told) as task:
        await until(lambda: told.lines)

    assert task.cancelled()
    assert process_start(int(told.lines[0])) is None


async def test_one_that_does_not_listen_is_killed_and_that_is_said(tmp_path: Path, told: Told) -> None:
    spec = replace(spec_of(tmp_path, STUBBORN), stop_seconds=0.2)
    async with asyncio.timeout(10), kept(spec, told):
        await until(lambda: told.lines == ["deaf"])

    assert told.lines == ["deaf", "is still ending; it is killed in 0 s", "did not end when asked, and is killed"]


async def test_who_is_in_a_hurry_waits_less(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "HURRY_SECONDS", 0.1)
    hurry = asyncio.Event()
    task = asyncio.create_task(keep(spec_of(tmp_path, STUBBORN), told, hurry))
    await until(lambda: told.lines == ["deaf"])
    task.cancel()
    hurry.set()

    async with asyncio.timeout(10):
        await asyncio.wait({task})

    assert told.lines == ["deaf", "did not end when asked, and is killed"]


async def test_a_frozen_one_hears_that_it_should_end(tmp_path: Path, told: Told) -> None:
    async with asyncio.timeout(10), kept(spec_of(tmp_path, OBEDIENT), told):
        await until(lambda: told.lines)
        os.kill(int(told.lines[0]), signal.SIGSTOP)

    assert len(told.lines) == 1
    assert process_start(int(told.lines[0])) is None


async def test_it_is_written_down_while_it_runs(tmp_path: Path, told: Told) -> None:
    spec = replace(spec_of(tmp_path, OBEDIENT), record=tmp_path / "run" / "child.json")
    assert spec.record is not None
    async with kept(spec, told):
        await until(lambda: told.lines)
        assert json.loads(spec.record.read_text())["pid"] == int(told.lines[0])

    assert not spec.record.exists()


async def test_where_it_cannot_be_written_down_it_runs_all_the_same(tmp_path: Path, told: Told) -> None:
    program = f"print('hello'); exit({EX_CONFIG})"

    assert await keep(replace(spec_of(tmp_path, program), record=Path("/proc/no/child.json")), told) == EX_CONFIG

    assert "hello" in told.lines
    assert any("is not written down" in line for line in told.lines)


SIGNING = """
import asyncio, os, signal
from api.signs import give_signs
async def main():
    signs = asyncio.create_task(give_signs())
    await asyncio.sleep(0)  # the first sign is given: what says its pid is already watched by the short patience
    print(os.getpid(), flush=True)
    await signs
asyncio.run(main())
"""


async def test_one_that_hangs_is_killed_and_started_again_and_one_that_does_not_is_left_alone(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "BACK_OFF_SECONDS", (0.01,))
    monkeypatch.setattr(signs, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(signs, "FIRST_SIGN_FACTOR", 100)  # on a busy machine Python starts slowly
    asked = 0

    async def answers() -> bool:
        nonlocal asked
        asked += 1
        return False

    # The other is asked, too, and has given no answer yet: then its pipe counts.
    hanging = replace(spec_of(tmp_path, SIGNING), watch=Watch(2.0))
    async with (
        kept(hanging, told),
        kept(replace(hanging, watch=Watch(2.0, answers), name="other"), Told(name="other")) as other,
    ):
        await until(lambda: told.lines)
        os.kill(int(told.lines[0]), signal.SIGSTOP)
        await until(lambda: len(told.lines) == 4)
        assert not other.done()
        assert asked > 20

    assert told.lines[1:3] == [
        "hangs: no sign of life for 2 s; it is killed",
        "ended with code -9; starting it again in 0.01 s",
    ]


async def test_its_last_words_are_kept(tmp_path: Path, told: Told) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit('bye'))"
    last_words = f"import signal, sys, time; {handler}; print('up', flush=True); time.sleep(60)"
    spec = spec_of(tmp_path, last_words)
    async with kept(spec, told):
        await until(lambda: told.lines == ["up"])

    assert told.lines == ["up", "bye"]
    assert spec.log_path.read_text() == "up\nbye\n"


async def test_a_child_of_it_that_lives_on_does_not_hold_up_the_restart(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "BACK_OFF_SECONDS", (0.01,))
    monkeypatch.setattr(child, "LAST_WORDS_SECONDS", 0.1)
    leaves = "import subprocess; print('again', subprocess.Popen(['sleep', '60']).pid, flush=True)"
    async with kept(spec_of(tmp_path, leaves), told):
        await until(lambda: sum(line.startswith("again") for line in told.lines) == 2)

    for line in told.lines:
        if line.startswith("again"):
            os.kill(int(line.split()[1]), signal.SIGKILL)


async def test_a_line_too_long_to_hold_is_dropped_and_the_next_one_kept(tmp_path: Path, told: Told) -> None:
    assert await keep(spec_of(tmp_path, f"print('x' * 200_000); print('next'); exit({EX_CONFIG})"), told) == EX_CONFIG

    assert told.lines[-1] == "next"


async def test_a_log_that_grew_large_is_put_aside(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_output, "LOG_BYTES", 3)
    spec = spec_of(tmp_path, f"print('new'); exit({EX_CONFIG})")
    spec.log_path.parent.mkdir()
    spec.log_path.write_text("large\n")

    await keep(spec, told)

    assert (spec.log_path.read_text(), (tmp_path / "logs" / "child.log.1").read_text()) == ("new\n", "large\n")


@pytest.mark.parametrize("path", ["/dev/full", "/proc/no/log"])
async def test_where_no_log_can_be_written_the_process_goes_on(tmp_path: Path, told: Told, path: str) -> None:
    program = f"print(1, flush=True); print(2, flush=True); exit({EX_CONFIG})"
    spec = ChildSpec(NAME, (sys.executable, "-c", program), dict(os.environ), Path(path))

    assert await keep(spec, told) == EX_CONFIG

    assert [line for line in told.lines if "log" not in line] == ["1", "2"]
    assert sum("log" in line for line in told.lines) == 1


async def test_what_must_be_done_before_is_done_before_every_start(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "BACK_OFF_SECONDS", (0.01,))

    async def before() -> None:
        told.lines.append("before")

    async with kept(spec_of(tmp_path, "print('hello')", before), told):
        await until(lambda: told.lines.count("hello") == 2)

    words = [line for line in told.lines if not line.startswith("ended")]
    assert words[:4] == ["before", "hello", "before", "hello"]


KEEPER = f"""
import asyncio, os, pathlib, sys
from api.child import ChildSpec, keep
spec = ChildSpec("child", (sys.executable, "-c", {OBEDIENT!r}), dict(os.environ), pathlib.Path(sys.argv[1]))
asyncio.run(keep(spec, lambda _, line: print(line, flush=True)))
"""


async def test_it_ends_with_its_keeper_however_that_ends(tmp_path: Path) -> None:
    keeper = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KEEPER, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE, cwd=PROJECT_ROOT
    )
    assert keeper.stdout is not None
    pid = int(await keeper.stdout.readline())
    assert process_start(pid) is not None

    keeper.kill()
    await keeper.wait()

    await until(lambda: process_start(pid) is None)
