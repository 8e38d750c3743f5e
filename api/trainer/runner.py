"""Runs one trainer and keeps everything it says; a program of its own, so that it outlives whoever started it.

    python -m api.trainer.runner WORKDIR

Standard library only, like all it imports; Linux only. Reads `run/spec.json` in WORKDIR and writes beside it:

    runner.json    who runs, once the trainer is started; the starting process exits 0 only then
    events.jsonl   {"seq", "time", "message"} for every webhook message, in the order of arrival
    stdout.log, stderr.log
    exit.json      how it ended; always the last to be written, so whoever sees it can read everything else

SIGTERM asks the trainer's process group to stop (SIGINT) and kills it when `grace_seconds` are over. If the runner
itself is killed, the kernel kills the trainer (PR_SET_PDEATHSIG), so that nobody holds the GPU unseen.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from api.processes import boot_id, process_start
from api.trainer.journal import Journal, say
from api.trainer.listener import Listener
from api.trainer.proc import end_descendants, reap, signal_group
from api.trainer.workdir import Workdir, write_json

DISK_PATIENCE_SECONDS = 60.0
"""How long the end of a run waits for a full disk."""
DESCENDANTS_SECONDS = 10.0
RESERVED_BYTES = 4096
"""Space for exit.json, taken at the start, so that a full disk cannot keep the end secret."""

_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Runner:
    """One trainer, from start to exit.json."""

    def __init__(self, workdir: Workdir, spec: dict[str, Any]) -> None:
        self._dir = workdir
        self._spec = spec
        self._requested = False
        self._started_at = time.time()
        self._reserved = workdir.exit.with_suffix(".reserved")
        self._reserved.write_bytes(b" " * RESERVED_BYTES)
        self._journal = Journal(workdir.events)
        self._listener = Listener(self._journal)
        self._pid = 0

    def start(self) -> None:
        """Start the trainer and say so in runner.json. Raises OSError when it cannot be started."""
        write_json(self._dir.webhook, {**self._spec["webhook"], "callback_url": self._listener.url})
        # Before the first thread: what runs between fork and exec must not find a lock taken.
        self._pid = self._spawn()
        self._journal.start()
        threading.Thread(target=self._listener.serve_forever, name="listener", daemon=True).start()
        write_json(
            self._dir.runner,
            {
                "boot_id": boot_id(),
                "pid": os.getpid(),
                "start": process_start(os.getpid()),
                "trainer_pid": self._pid,
                "trainer_start": process_start(self._pid),
                "started_at": self._started_at,
            },
        )

    def wait(self) -> None:
        """Wait for the trainer's end, stop it when asked, and write exit.json."""
        status = self._wait()
        end_descendants(DESCENDANTS_SECONDS)
        self._journal.close(DISK_PATIENCE_SECONDS)
        code = os.waitstatus_to_exitcode(status)
        self._write_exit(
            {
                "returncode": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "requested": self._requested,
                "started_at": self._started_at,
                "ended_at": time.time(),
                "events": self._journal.written,
                "events_lost": self._journal.lost,
            }
        )

    def _spawn(self) -> int:
        libc, parent = ctypes.CDLL(None), os.getpid()

        def in_the_child() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            # A parent started with `nohup` or `&` ignores SIGINT, and so would the trainer.
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(name, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)

        with self._dir.stdout.open("ab") as stdout, self._dir.stderr.open("ab") as stderr:
            trainer = subprocess.Popen(
                self._spec["argv"],
                cwd=self._dir.root,
                env=self._spec["env"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
                preexec_fn=in_the_child,
            )
        trainer.returncode = 0  # reaped here, with every other child, and not by the module
        return trainer.pid

    def _wait(self) -> int:
        """The trainer's wait status."""
        kill_at: float | None = None
        while True:
            status = reap(self._pid)
            if status is not None:
                return status
            received = _next_signal(kill_at)
            if received is None:
                say("the trainer did not stop in time, killing it")
                signal_group(self._pid, signal.SIGKILL)
                kill_at = None
            elif received != signal.SIGCHLD and not self._requested:
                self._requested = True
                kill_at = time.monotonic() + self._spec["grace_seconds"]
                signal_group(self._pid, signal.SIGINT)
                signal_group(self._pid, signal.SIGCONT)  # it may have been frozen

    def _write_exit(self, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        with self._reserved.open("r+b") as file:  # over the reserved bytes: needs no new space
            file.write(text + b" " * (RESERVED_BYTES - len(text)))
            file.flush()
            os.fsync(file.fileno())
        self._reserved.replace(self._dir.exit)


def _next_signal(deadline: float | None) -> int | None:
    """The next watched signal; None at the deadline."""
    if deadline is None:
        return signal.sigwaitinfo(_WATCHED).si_signo
    info = signal.sigtimedwait(_WATCHED, max(0.0, deadline - time.monotonic()))
    return None if info is None else info.si_signo


def _detached(work: Callable[[Callable[[], None]], None]) -> NoReturn:
    """Run `work(ready)` in a new session of a new process; exit 0 once that called `ready`, 1 if it ended before.

    Who kills this process before `ready` kills the new one, too, which would else begin when nobody waits for it.
    """
    libc, starter = ctypes.CDLL(None), os.getpid()
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        os._exit(0 if os.read(read, 1) else 1)
    os.close(read)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != starter:
        os._exit(1)
    os.setsid()
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def ready() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, 0)
        os.write(write, b"1")  # raises BrokenPipeError when the starter was killed just now
        os.close(write)

    work(ready)
    sys.exit(0)


def main(workdir: Workdir) -> NoReturn:
    def work(ready: Callable[[], None]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        runner = Runner(workdir, json.loads(workdir.spec.read_text()))
        runner.start()
        ready()
        runner.wait()

    _detached(work)


if __name__ == "__main__":
    main(Workdir(Path(sys.argv[1])))
