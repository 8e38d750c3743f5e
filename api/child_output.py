"""What a child prints: line by line to whoever watches, and to a log file that does not grow for ever."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

LOG_BYTES = 10_000_000


@contextlib.asynccontextmanager
async def output_pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """What is written to the second, a file descriptor that the caller must close, is read from the first.

    A pipe of asyncio's own subprocesses cannot be closed before all who write to it are gone.
    """
    lines = asyncio.StreamReader()
    read_end, write_end = os.pipe()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(read_end, "rb", 0)
    )
    try:
        yield lines, write_end
    finally:
        transport.close()


async def pump(lines: asyncio.StreamReader, log_path: Path, tell: Callable[[str], None]) -> None:
    """Every line to `tell` and to the log file, as long as that can be written."""
    with contextlib.ExitStack() as stack:
        log: BinaryIO | None = None
        try:
            log = stack.enter_context(_open_log(log_path))
        except OSError as exc:
            tell(f"there is no log: {exc}")
        while True:
            try:
                line = await lines.readline()
            except ValueError:  # a line longer than the buffer: it was dropped
                continue
            if not line:
                return
            tell(line.decode(errors="replace").rstrip())
            try:
                if log is not None:
                    log.write(line)
            except OSError as exc:  # a full disk must not end the service
                tell(f"the log ends here: {exc}")
                log = None


def _open_log(path: Path) -> BinaryIO:
    """The log, to append to; one that has grown large is put aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab", buffering=0)
