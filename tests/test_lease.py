"""An owner is dead only when that is certain."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from api import lease
from api.lease import is_here, new_owner, owner_is_dead
from api.processes import process_start, stat_of
from tests.owners import dead_owner, living_owner
from tests.waiting import until


def test_this_process_lives_and_names_itself_anew_each_time() -> None:
    one, other = new_owner(), new_owner()

    assert one != other
    assert not owner_is_dead(one)


def test_another_process_lives_until_it_ends() -> None:
    with living_owner() as owner:
        assert not owner_is_dead(owner)

    assert owner_is_dead(owner)


def test_a_pid_that_was_given_to_a_new_process_is_not_the_owner() -> None:
    host, _, _, word = new_owner().split("|")

    assert owner_is_dead("|".join((host, str(os.getpid()), "1", word)))


async def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])  # noqa: ASYNC220 - it must not be waited for
    try:
        await until(lambda: (stat_of(process.pid) or [""])[0] == "Z")

        assert process_start(process.pid) is None
    finally:
        process.wait()


async def test_a_frozen_process_is_not_dead() -> None:
    with living_owner() as owner:
        pid = int(owner.split("|")[1])
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: (stat_of(pid) or [""])[0] == "T")

        assert not owner_is_dead(owner)


@pytest.mark.parametrize("owner", ["", "junk", "another-host|1|1|x", "a|b|c", "another host|²|1|x"])
def test_what_nobody_here_can_tell_is_not_dead(owner: str) -> None:
    assert not owner_is_dead(owner)


def test_an_owner_of_another_host_is_not_dead_here() -> None:
    host, rest = dead_owner().split("|", 1)

    assert not owner_is_dead(f"not-{host}|{rest}")


def test_an_owner_in_another_pid_namespace_of_this_host_is_not_dead_here() -> None:
    where, rest = dead_owner().split("|", 1)
    host, namespace = where.split("@")

    assert Path("/proc/self/ns/pid").stat().st_ino == int(namespace)
    assert not owner_is_dead(f"{host}@{int(namespace) + 1}|{rest}")


def test_where_nothing_is_known_of_namespaces_the_host_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_PID_NAMESPACE", tmp_path / "missing")
    where, rest = dead_owner().split("|", 1)

    assert owner_is_dead(f"{where.split('@')[0]}@0|{rest}")


def test_an_owner_can_name_a_file() -> None:
    assert "/" not in new_owner()


def test_only_who_runs_beside_us_is_here() -> None:
    assert is_here(new_owner())
    assert not is_here(f"elsewhere|{new_owner().partition('|')[2]}")
