"""The captioner as a child process: started, asked picture by picture, and surely gone at the end."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from api.child_output import output_pipe, pump
from api.domain.engine import TrainerInstall
from api.errors import EngineError, RetryableError
from api.processes import describe_exit, without_secrets
from api.see_through import see_through

log = structlog.get_logger(__name__)

CHILD = Path(__file__).with_name("child.py")
LOAD_SECONDS = 1200.0
"""17 GB from a slow disk."""
PICTURE_SECONDS = 600.0
"""A long caption on a machine without a GPU."""
LOG_LINES = 40
LAST_WORDS_SECONDS = 2.0
ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CaptionerSpec:
    """What the child is started with."""

    folder: str
    family: str
    prompt: str
    system: str
    max_tokens: int
    cpu_dtype: str
    seed: int


class PictureError(Exception):
    """This picture cannot be described; that says nothing of the others."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class CaptionerProcess:
    """One captioner, whose weights are loaded. Ask one picture after the other."""

    def __init__(self, process: Process, said: "deque[str]", listening: "asyncio.Task[None]") -> None:
        self._process = process
        self._said = said
        self._listening = listening
        self.about: dict[str, str] = {}
        """`device`, `dtype` and `transformers`, by its own word."""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def load(self) -> None:
        """Raises EngineError with the captioner's own code, RetryableError `captioner_died` or `captioner_hung`."""
        told = await self._hear(LOAD_SECONDS)
        if "failed" in told:
            raise self._unfit(told["failed"])
        self.about = told["ready"]

    async def describe(self, picture: Path) -> str:
        """Raises PictureError, RetryableError `captioner_died` or `captioner_hung`."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # it has died: the answer that does not come says so
            self._process.stdin.write(json.dumps({"path": str(picture)}).encode() + b"\n")
            await self._process.stdin.drain()
        told = await self._hear(PICTURE_SECONDS)
        if "caption" not in told:
            raise PictureError(told["code"], told["error"])
        caption: str = told["caption"]
        return caption

    async def _hear(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError as exc:
            raise RetryableError(
                f"The captioner has said nothing for {seconds:.0f} s.",
                code="captioner_hung",
                hint="The machine is very busy, or the GPU's driver hangs.",
                log_tail=self.log_tail,
            ) from exc
        if not line.endswith(b"\n"):
            raise await self._died()
        told: dict[str, Any] = json.loads(line)
        return told

    async def _died(self) -> RetryableError:
        code = await self._process.wait()
        await self._last_words()
        killed = code == -signal.SIGKILL
        return RetryableError(
            f"The captioner ended while it was needed ({describe_exit(code)}).",
            code="captioner_died",
            hint="The machine most likely ran out of memory." if killed else "See the end of its log.",
            log_tail=self.log_tail,
        )

    def _unfit(self, trouble: dict[str, str]) -> EngineError:
        hint = "See the end of its log; install it again."
        if trouble["code"] == "captioner_out_of_memory":
            hint = "Close what else uses the GPU, or take florence-2, which is smaller."
        return EngineError(
            f"The captioner could not be loaded: {trouble['error']}",
            code=trouble["code"],
            hint=hint,
            log_tail=self.log_tail,
        )

    @property
    def log_tail(self) -> str:
        return "\n".join(self._said)

    async def end(self) -> None:
        """Return when it and all it started are gone, and with them all memory they held."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._last_words()
        self._listening.cancel()

    async def _last_words(self) -> None:
        await asyncio.wait({self._listening}, timeout=LAST_WORDS_SECONDS)


@asynccontextmanager
async def running(install: TrainerInstall, spec: CaptionerSpec, log_path: Path) -> AsyncIterator[CaptionerProcess]:
    """A captioner that is still loading; it ends with this context, with this process, or when it is killed.

    Raises EngineError `captioner_not_started`.
    """
    said: deque[str] = deque(maxlen=LOG_LINES)
    async with output_pipe() as (lines, end):
        try:
            process = await _spawn(install, spec, end)
        finally:
            os.close(end)
        listening = asyncio.create_task(pump(lines, log_path, said.append))
        captioner = CaptionerProcess(process, said, listening)
        log.info("captioner_started", pid=process.pid, family=spec.family)
        try:
            yield captioner
        finally:
            await see_through(captioner.end())
            log.info("captioner_ended", pid=process.pid)


async def _spawn(install: TrainerInstall, spec: CaptionerSpec, output: int) -> Process:
    command = (str(install.python), "-I", "-B", str(CHILD), str(os.getpid()), json.dumps(asdict(spec)))
    env = environment(install, dict(os.environ), os.cpu_count() or 1)
    try:
        return await asyncio.create_subprocess_exec(
            *command, env=env, stdin=PIPE, stdout=PIPE, stderr=output, start_new_session=True, limit=ANSWER_BYTES
        )
    except OSError as exc:
        raise EngineError(
            f"The captioner cannot be started: {exc}",
            code="captioner_not_started",
            hint="Run `masuka install simpletuner`: captioners run by its Python.",
        ) from exc


def environment(install: TrainerInstall, inherited: dict[str, str], cpu_count: int) -> dict[str, str]:
    """No secret of ours, nothing from the internet; without a GPU half the cores, as for ComfyUI."""
    kept = without_secrets(inherited)
    if not install.gpu:
        kept.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count // 2)))
    return {
        **kept,
        "PATH": f"{install.python.parent}:{inherited.get('PATH', os.defpath)}",
        "NO_COLOR": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
