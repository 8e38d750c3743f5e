"""The file of events while the disk takes nothing."""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.trainer import journal as module_under_test
from api.trainer.journal import Journal


@contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """Files of this process take no more than so many bytes: the kernel writes what fits and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "DISK_RETRY_SECONDS", 0.01)


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["message"]["number"] for line in path.read_text().splitlines()]


def message(number: int) -> dict[str, object]:
    return {"number": number, "text": "x" * 40_000}


def test_nothing_is_lost_or_torn_while_the_disk_is_full_for_a_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    with full_disk(after_bytes=100_000):
        journal.start()
        for number in range(5):
            journal.put(message(number))
        deadline = time.monotonic() + 10
        while journal.written < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    journal.close(patience_seconds=10)

    assert numbers(path) == [0, 1, 2, 3, 4]
    assert (journal.written, journal.lost) == (5, 0)


def test_what_a_disk_that_stays_full_did_not_take_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    with full_disk(after_bytes=100_000):
        journal.start()
        for number in range(5):
            journal.put(message(number))
        journal.close(patience_seconds=0.1)

    assert numbers(path) == [0, 1]
    assert (journal.written, journal.lost) == (2, 3)


def test_memory_is_bounded_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "MAX_BACKLOG", 3)
    journal = Journal(tmp_path / "events.jsonl")
    for number in range(5):
        journal.put({"number": number})
    journal.start()
    journal.close(patience_seconds=10)

    assert numbers(tmp_path / "events.jsonl") == [0, 1, 2]
    assert (journal.written, journal.lost) == (3, 2)


def test_text_that_is_no_unicode_is_kept_as_well_as_it_can_be(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    journal.start()
    journal.put({"number": 1, "text": "\ud800 ü"})
    journal.close(patience_seconds=10)

    assert json.loads((tmp_path / "events.jsonl").read_text())["message"]["text"] == "? ü"
