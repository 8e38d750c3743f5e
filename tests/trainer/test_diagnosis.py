"""Why trainings ended: texts of the real SimpleTuner, PyTorch, huggingface_hub and Linux, put into codes."""

from dataclasses import replace

import pytest

from api.trainer.diagnosis import MESSAGE_CHARS, RunExit, diagnose
from api.trainer.state import TrainingState
from tests.trainer.samples import folded

ENDED = RunExit(returncode=0, signal=None, requested=False, started_at=0, ended_at=1, events=5, events_lost=0)
NOTHING_SAID = TrainingState()


def said(error: str) -> TrainingState:
    return TrainingState(failed=True, error=error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.65 GiB", "out_of_memory"),
        ("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`", "out_of_memory"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.", "out_of_memory"),
        ("[Errno 28] No space left on device: '/data/output/checkpoint-250/optimizer.bin'", "disk_full"),
        ("[Errno 122] Disk quota exceeded", "disk_full"),
        ("Error while serializing: I/O error: No space left on device (os error 28)", "disk_full"),
        ("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534", "disk_full"),
        ("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file data/0", "disk_full"),
        ("basic_ios::clear: iostream error", "disk_full"),
        ("401 Client Error. Cannot access gated repo for url https://huggingface.co/x.", "model_gated"),
        ("Access to model black-forest-labs/FLUX.1-dev is restricted.", "model_gated"),
        ("(id=images) Dataset produced no usable samples. This typically happens when:", "dataset_refused"),
        ("Dataset configuration will produce zero usable batches.", "dataset_refused"),
        ("The following dataset directories do not exist:\n  - (id=images) instance_data_dir: /d", "dataset_refused"),
        ("We couldn't connect to 'http://127.0.0.1:9' to load this model", "model_missing"),
        ("Error no file named diffusion_pytorch_model.bin found in directory /m", "model_missing"),
        ("train.py: error: unrecognized arguments: --no_such_option=5", "bad_option"),
        ("argument --optimizer: invalid choice: 'adamw8bit'", "bad_option"),
        ("Optimizer no_such_one not found.", "bad_option"),
        ("AdamW8Bit has been removed in favour of optimi-adamw optimiser, which offers better", "bad_option"),
        ("Something nobody has seen", "trainer_failed"),
    ],
)
def test_what_the_trainer_said_decides(error: str, code: str) -> None:
    found = diagnose(ENDED, said(error), "CUDA out of memory stands somewhere in its log")

    assert found.code == code
    assert found.message in error
    assert found.hint


def test_what_the_machine_lacked_is_found_in_the_log_when_the_trainer_names_no_cause() -> None:
    log = (
        "Traceback (most recent call last):\n  File x\nOSError: [Errno 28] No space left on device\n"
        "Traceback (most recent call last):\n  File y\nValueError: closed\n"
    )

    found = diagnose(ENDED, said("One or more text embedding cache writes failed."), log)

    assert found.code == "disk_full"
    assert found.message == (
        "One or more text embedding cache writes failed. OSError: [Errno 28] No space left on device"
    )
    elsewhere = log.replace("No space left on device", "gone").replace("28", "2")
    assert diagnose(ENDED, said("Something nobody has seen"), elsewhere).code == "trainer_failed"


@pytest.mark.parametrize("version", ["3.1.6", "4.8"])
def test_a_missing_dataset_is_recognised_whatever_the_version_calls_it(version: str) -> None:
    found = diagnose(ENDED, folded(f"{version}_dataset_missing"), "")

    assert found.code == "dataset_refused"
    assert "exist" in found.message or "No such file" in found.message


def test_without_a_message_the_last_traceback_of_the_log_decides() -> None:
    log = (
        "Traceback (most recent call last):\nMemoryError\n"
        "going on\n"
        "\x1b[31mTraceback (most recent call last)\x1b[0m:\n"
        '  File "x.py", line 1\n'
        "OSError: [Errno 28] No space left on device\n"
        "and later, on the other stream: fine\n"
    )

    found = diagnose(ENDED, NOTHING_SAID, log)

    assert (found.code, found.message) == ("disk_full", "OSError: [Errno 28] No space left on device")


def test_an_unknown_traceback_is_told_by_its_exception() -> None:
    found = diagnose(ENDED, NOTHING_SAID, "Traceback (most recent call last):\n  File x\n\nKeyError: 'y'\nfine\n")

    assert (found.code, found.message) == ("trainer_failed", "KeyError: 'y'")


def test_a_traceback_that_is_cut_off_is_no_error_of_ours() -> None:
    assert diagnose(ENDED, NOTHING_SAID, "Traceback (most recent call last):\n  File x").code == "trainer_failed"


def test_without_a_traceback_only_the_last_lines_count() -> None:
    found = diagnose(ENDED, NOTHING_SAID, "CUDA out of memory\n" + "fine\n" * 100 + "the end\n")

    assert (found.code, found.message) == ("trainer_failed", "the end")


def test_with_no_word_at_all_the_exit_code_is_named() -> None:
    assert diagnose(replace(ENDED, returncode=3), NOTHING_SAID, "").message == "The trainer ended with exit code 3."


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        (None, NOTHING_SAID, "trainer_lost"),
        (replace(ENDED, events_lost=7), NOTHING_SAID, "disk_full"),
        (replace(ENDED, returncode=None, signal=9), NOTHING_SAID, "killed"),
        (replace(ENDED, returncode=None, signal=11), NOTHING_SAID, "trainer_failed"),
        (ENDED, TrainingState(interrupted=True), "trainer_interrupted"),
        (replace(ENDED, returncode=None, signal=15), NOTHING_SAID, "trainer_interrupted"),
        (replace(ENDED, returncode=None, signal=2), NOTHING_SAID, "trainer_interrupted"),
    ],
)
def test_how_the_process_ended_decides_when_it_said_nothing(
    end: RunExit | None, state: TrainingState, code: str
) -> None:
    found = diagnose(end, state, "just an ordinary line")

    assert found.code == code
    assert found.hint


def test_the_name_of_a_deadly_signal_is_told() -> None:
    assert "SIGSEGV" in diagnose(replace(ENDED, returncode=None, signal=11), NOTHING_SAID, "").message


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        (replace(ENDED, returncode=None, signal=9), NOTHING_SAID, "killed"),
        (replace(ENDED, returncode=None, signal=15), NOTHING_SAID, "trainer_interrupted"),
        (ENDED, TrainingState(interrupted=True, dataset_failed=True), "trainer_interrupted"),
        (None, NOTHING_SAID, "trainer_lost"),
    ],
)
def test_an_ordinary_line_in_which_a_log_is_broken_off_explains_nothing(
    end: RunExit | None, state: TrainingState, code: str
) -> None:
    log = "[INFO] Configured backend: {'instance_data_dir': '/data'}\n[INFO] Loading the transformer"

    assert diagnose(end, state, log).code == code


def test_an_out_of_memory_in_the_log_explains_a_kill() -> None:
    log = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory."

    assert diagnose(replace(ENDED, returncode=None, signal=9), NOTHING_SAID, log).code == "out_of_memory"


def test_a_message_is_never_longer_than_a_row_takes() -> None:
    assert len(diagnose(ENDED, said("x" * 10_000), "").message) == MESSAGE_CHARS
