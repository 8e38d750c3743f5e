import mmap
import os
from pathlib import Path

import psutil
import pytest

from api.comfy.memory import allowed_bytes, container_limit, held_bytes

MEBIBYTE = 1024**2


def test_memory_that_is_used_is_held_until_it_is_given_back():
    before = held_bytes(os.getpid())
    taken = mmap.mmap(-1, 64 * MEBIBYTE)
    taken.write(b"x" * len(taken))
    assert held_bytes(os.getpid()) - before > 60 * MEBIBYTE
    taken.close()
    assert held_bytes(os.getpid()) - before < 60 * MEBIBYTE


def test_files_that_are_mapped_are_not_held(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 64 * MEBIBYTE)
    before = held_bytes(os.getpid())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as weights:
        assert sum(weights[::4096]) > 0
        assert psutil.Process().memory_info().rss > 64 * MEBIBYTE
        assert held_bytes(os.getpid()) - before < 32 * MEBIBYTE


def test_a_process_that_is_gone_holds_nothing():
    assert held_bytes(2**22 + 1) == 0


def test_what_comfyui_may_hold_is_what_the_setting_says_or_a_share_of_what_there_is():
    assert allowed_bytes(0.5) == 512 * MEBIBYTE
    assert 0 < allowed_bytes(0) <= 0.8 * psutil.virtual_memory().total


def limited(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("membership", "limits", "least"),
    [
        ("0::/", {"memory.max": "5000"}, 5000),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "7000"}, 7000),
        ("0::/a/b", {"a/b/memory.max": "3000", "a/memory.max": "7000"}, 3000),
        ("0::/outside", {"memory.max": "5000"}, 5000),
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("4:cpu,memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "4000"}, 4000),
        ("4:cpu:/a\n0::/", {"memory/a/memory.limit_in_bytes": "4000"}, None),
    ],
)
def test_the_least_limit_of_the_control_groups_counts(tmp_path, membership, limits, least):
    for name, text in limits.items():
        limited(tmp_path / name, text)
    assert container_limit(membership, tmp_path) == least
