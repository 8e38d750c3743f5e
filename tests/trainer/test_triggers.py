"""The file by which a running trainer is asked: counts that only grow, and what each was raised for."""

import json
from pathlib import Path

import pytest

from api.trainer import triggers
from api.trainer.triggers import Told
from api.trainer.workdir import Workdir, write_json


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    made = Workdir(tmp_path)
    write_json(made.triggers, {})
    return made


def test_each_wish_raises_its_count_by_one_and_is_remembered(workdir: Workdir) -> None:
    assert triggers.told(workdir, "checkpoint") is None
    triggers.tell(workdir, "checkpoint", Told("first", 1.0))
    triggers.tell(workdir, "sample", Told("other", 2.0))
    triggers.tell(workdir, "checkpoint", Told("second", 3.0))

    said = json.loads(workdir.triggers.read_text())
    assert (said["manual_checkpoint"], said["manual_validation"]) == (2, 1)
    assert triggers.told(workdir, "checkpoint") == Told("second", 3.0)
    assert triggers.told(workdir, "sample") == Told("other", 2.0)
