"""Training checkpoints on the disk: only one that a trainer can resume from is left as the newest."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.trainer.checkpoint import damage, newest_whole, relocate, state_files, step_of
from api.trainer.workdir import FINAL_LORA, Workdir
from tests.trainer.checkpoint_files import STATE, checkpoint
from tests.trainer.lora_files import bf16, lora, pair

CHECKSUMMED = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    return Workdir(tmp_path)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("/somewhere/output/checkpoint-250", 250),
        ("checkpoint-1", 1),
        ("checkpoint-0", None),
        ("checkpoint-250-tmp", None),
        ("checkpoint-", None),
        ("other-250", None),
        ("", None),
    ],
)
def test_the_step_is_in_the_folders_name(path: str, step: int | None) -> None:
    assert step_of(path) == step


def test_the_state_is_what_the_trainer_has_written_when_it_announces_it(workdir: Workdir) -> None:
    folder = checkpoint(workdir.output, 3)

    assert {path.name for path in state_files(folder)} == STATE


def test_a_whole_one_has_no_damage(workdir: Workdir) -> None:
    assert damage(checkpoint(workdir.output, 3), 3) is None


@pytest.mark.parametrize("harm", [Path.unlink, cut_off, empty, zero])
@pytest.mark.parametrize("name", sorted(STATE))
def test_a_file_that_is_missing_or_half_written_is_named(
    workdir: Workdir, name: str, harm: Callable[[Path], None]
) -> None:
    folder = checkpoint(workdir.output, 3)
    harm(folder / name)

    assert damage(folder, 3)


@pytest.mark.parametrize("name", CHECKSUMMED)
def test_one_changed_byte_is_noticed(workdir: Workdir, name: str) -> None:
    path = checkpoint(workdir.output, 3) / name
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)

    assert damage(path.parent, 3) == f"{name} is cut off or changed"


def test_weights_that_are_not_finite_are_damage(workdir: Workdir) -> None:
    folder = checkpoint(workdir.output, 3)
    lora(folder / FINAL_LORA, pair("a") | {"a.lora_B.weight": bf16(8, 4, bits=0x7FC0)})

    assert "NaN" in str(damage(folder, 3))


def test_the_state_of_another_step_is_damage(workdir: Workdir) -> None:
    folder = checkpoint(workdir.output, 3)

    assert damage(folder.rename(workdir.checkpoint(6)), 6) == "its state is of another step"


def test_damaged_ones_go_until_the_newest_is_whole(workdir: Workdir) -> None:
    for step in (3, 6, 9, 12):
        checkpoint(workdir.output, step)
    cut_off(workdir.checkpoint(12) / "optimizer.bin")
    empty(workdir.checkpoint(9) / FINAL_LORA)

    assert newest_whole(workdir, {}) == 6
    assert sorted(path.name for path in workdir.output.iterdir()) == ["checkpoint-3", "checkpoint-6"]


def test_names_that_the_trainer_stumbles_over_go(workdir: Workdir) -> None:
    checkpoint(workdir.output, 3)
    for name in ("checkpoint-6-tmp", "checkpoint-best", "checkpoint-9-rolling"):
        (workdir.output / name).mkdir()
    (workdir.output / "checkpoint.txt").touch()

    assert newest_whole(workdir, {}) == 3
    assert [path.name for path in workdir.output.iterdir()] == ["checkpoint-3"]


def test_one_that_is_not_what_was_stored_of_its_step_goes(workdir: Workdir) -> None:
    for step in (3, 6):
        checkpoint(workdir.output, step)
    weights = (workdir.checkpoint(3) / FINAL_LORA).read_bytes()
    recorded = {
        3: {FINAL_LORA: hashlib.sha256(weights).hexdigest()},
        6: {FINAL_LORA: hashlib.sha256(b"something else").hexdigest()},
    }

    assert newest_whole(workdir, recorded) == 3
    assert newest_whole(workdir, {3: {".guard": "its file is gone"}}) == 0


def test_where_nothing_was_trained_there_is_none(workdir: Workdir) -> None:
    assert newest_whole(workdir, {}) == 0


def sampler_state(folder: str) -> dict[str, Any]:
    """As SimpleTuner 4.8 saves it."""
    return {
        "aspect_ratio_bucket_indices": {"1.0": [f"{folder}/a.png", f"{folder}/b.png"], "0.5": [f"{folder}/c.png"]},
        "buckets": ["1.0", "0.5"],
        "exhausted_buckets": ["0.5"],
        "batch_size": 2,
        "current_bucket": 0,
        "seen_images": {f"{folder}/c.png": 2},
        "current_epoch": 3,
        "dp_size": 1,
    }


def saved_elsewhere(workdir: Workdir, photos: str) -> Path:
    """The sampler's state in a checkpoint that was saved where the photos lay in `/elsewhere`."""
    path = checkpoint(workdir.output, 3) / "training_state-images.json"
    path.write_text(json.dumps(sampler_state("/elsewhere")))
    workdir.dataset.mkdir()
    for photo in photos:
        (workdir.dataset / f"{photo}.png").touch()
        (workdir.dataset / f"{photo}.txt").touch()
    return path


def test_a_checkpoint_from_elsewhere_names_the_photos_where_they_are_now(workdir: Workdir) -> None:
    path = saved_elsewhere(workdir, "abc")

    relocate(workdir, 3)

    assert json.loads(path.read_bytes()) == sampler_state(str(workdir.dataset))
    written = path.stat()
    relocate(workdir, 3)
    assert path.stat() == written
    recorded = {3: {path.name: hashlib.sha256(b"as it was stored").hexdigest()}}
    assert newest_whole(workdir, recorded) == 3


def test_with_other_photos_a_checkpoint_begins_its_epoch_anew(workdir: Workdir) -> None:
    path = saved_elsewhere(workdir, "ab")

    relocate(workdir, 3)

    assert json.loads(path.read_bytes()) == {"batch_size": 2, "current_epoch": 3, "dp_size": 1}
