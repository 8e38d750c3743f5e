"""Writes down how many asyncio tasks this process has, every second: nothing tells that from outside.

Python imports it by its name at the start of each process that has this folder in `PYTHONPATH`. Both asyncio's own loop
and uvloop call `asyncio._set_running_loop` when they begin to run; uvloop takes it from there when it is imported.
"""

import asyncio
import os
import threading
import time
from asyncio import events
from pathlib import Path

_EVERY_SECONDS = 1.0
_FILE = Path(os.environ["MASUKA_BENCH_TASKS"]) / str(os.getpid())
_NEW = _FILE.with_suffix(".new")
_set_running_loop = events._set_running_loop
_metered: set[asyncio.AbstractEventLoop] = set()


def _meter(loop: asyncio.AbstractEventLoop) -> None:
    while not loop.is_closed():
        _NEW.write_text(str(len(asyncio.all_tasks(loop))), encoding="ascii")
        _NEW.replace(_FILE)  # nobody reads half a number
        time.sleep(_EVERY_SECONDS)


def _watched(loop: asyncio.AbstractEventLoop | None) -> None:
    _set_running_loop(loop)
    if loop is not None and loop not in _metered and threading.current_thread() is threading.main_thread():
        _metered.add(loop)
        threading.Thread(target=_meter, args=(loop,), daemon=True, name="meter-tasks").start()


events._set_running_loop = asyncio._set_running_loop = _watched
