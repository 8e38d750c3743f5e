"""How runs are judged: by what the trainer said and by the file it left."""

import os
import signal
from pathlib import Path

import pytest

from api.trainer.events import follow
from api.trainer.outcome import Outcome, OutcomeStatus, log_tail, outcome
from api.trainer.process import start
from api.trainer.state import TrainingStage
from api.trainer.workdir import Workdir
from tests.trainer.conftest import told, until
from tests.trainer.lora_files import bf16, lora, pair


@pytest.fixture
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(lora(tmp_path_factory.mktemp("lora") / "good.safetensors", pair("transformer.x")))


async def ended(workdir: Workdir, *actions: tuple[str, object]) -> Outcome:
    await start(workdir, told(*actions), job_id="job")
    async for _ in follow(workdir):
        pass
    result = await outcome(workdir)
    assert result is not None
    return result


async def test_a_run_that_said_so_and_left_a_good_lora_succeeded(workdir: Workdir, good: str) -> None:
    result = await ended(workdir, ("steps", 3), ("lora", good), ("complete", None), ("exit", 1))

    assert result.status is OutcomeStatus.SUCCEEDED
    assert result.failure is None
    assert (result.state.stage, result.state.step) == (TrainingStage.DONE, 3)
    assert result.lora is not None
    assert (result.lora.path, result.lora.rank) == (workdir.final_lora, 4)


async def test_while_a_run_goes_on_or_before_there_is_one_there_is_no_outcome(workdir: Workdir) -> None:
    assert await outcome(workdir) is None
    await start(workdir, told(("wait", None)), job_id="job")

    assert await outcome(workdir) is None


async def test_exit_code_0_is_no_success(workdir: Workdir, good: str) -> None:
    result = await ended(workdir, ("steps", 3), ("lora", good))

    assert result.status is OutcomeStatus.FAILED
    assert result.failure is not None
    assert result.failure.code == "trainer_failed"


async def test_success_without_a_lora_is_a_failure(workdir: Workdir) -> None:
    result = await ended(workdir, ("complete", None))

    assert result.failure is not None
    assert (result.failure.code, "wrote no LoRA" in result.failure.message) == ("lora_not_written", True)


async def test_a_lora_of_an_earlier_run_is_no_success_of_this_one(workdir: Workdir, good: str) -> None:
    workdir.output.mkdir()
    workdir.final_lora.write_bytes(Path(good).read_bytes())
    os.utime(workdir.final_lora, (1, 1))

    result = await ended(workdir, ("complete", None))

    assert result.failure is not None
    assert result.failure.code == "lora_not_written"
    assert "wrote no new LoRA" in result.failure.message


async def test_a_lora_with_nan_means_that_the_training_diverged(workdir: Workdir, tmp_path: Path) -> None:
    spoilt = pair("transformer.x") | {"transformer.x.lora_A.weight": bf16(4, 6, bits=0x7FC0)}
    path = lora(tmp_path / "nan.safetensors", spoilt)

    result = await ended(workdir, ("lora", str(path)), ("complete", None))

    assert result.failure is not None
    assert result.failure.code == "training_diverged"
    assert "learning_rate" in result.failure.hint


async def test_half_a_lora_is_a_failure(workdir: Workdir, good: str, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    half.write_bytes(Path(good).read_bytes()[:-10])

    result = await ended(workdir, ("lora", str(half)), ("complete", None))

    assert result.failure is not None
    assert result.failure.code == "lora_not_written"
    assert "not a usable LoRA" in result.failure.message


async def test_a_run_that_somebody_stopped_was_cancelled(workdir: Workdir) -> None:
    handle = await start(workdir, told(("wait", None)), job_id="job")
    await until((workdir.root / "waiting").exists)
    await handle.stop()

    result = await outcome(workdir)

    assert result is not None
    assert (result.status, result.failure) == (OutcomeStatus.CANCELLED, None)


async def test_a_run_stopped_after_its_last_step_still_succeeded(workdir: Workdir, good: str) -> None:
    handle = await start(workdir, told(("lora", good), ("complete", None), ("wait", None)), job_id="job")
    await until((workdir.root / "waiting").exists)
    await handle.stop()

    result = await outcome(workdir)

    assert result is not None
    assert result.status is OutcomeStatus.SUCCEEDED


async def test_a_killed_trainer_is_said_to_be_killed(workdir: Workdir) -> None:
    result = await ended(workdir, ("steps", 1), ("die", signal.SIGKILL))

    assert result.failure is not None
    assert result.failure.code == "killed"


async def test_a_lost_runner_is_told_apart_and_leaves_nothing_alive(workdir: Workdir) -> None:
    handle = await start(workdir, told(("child", False), ("wait", None)), job_id="job")
    await until((workdir.root / "waiting").exists)
    os.kill(handle.pid, signal.SIGKILL)
    async for _ in follow(workdir):
        pass

    result = await outcome(workdir)

    assert result is not None
    assert result.failure is not None
    assert result.failure.code == "trainer_lost"
    assert handle.gone()


async def test_the_error_that_a_trainer_printed_is_found_in_its_log(workdir: Workdir) -> None:
    result = await ended(workdir, ("say_error", "train.py: error: unrecognized arguments: --x=5"), ("exit", 2))

    assert result.failure is not None
    assert result.failure.code == "bad_option"
    assert result.failure.message == "train.py: error: unrecognized arguments: --x=5"


async def test_the_log_tail_is_short_and_holds_the_last_state_of_a_progress_bar(workdir: Workdir) -> None:
    workdir.run.mkdir()
    workdir.stdout.write_text("x" * 1000 + "\nthe end\n")
    workdir.stderr.write_bytes(b"step 1\rstep 2\rstep 3\r\nafter \xff\n")

    tail = log_tail(workdir, limit=50)

    assert tail.endswith("the end\nstep 3\nafter �")
    assert len(tail) < 100
    workdir.stderr.unlink()
    assert log_tail(workdir, limit=8) == "the end"
