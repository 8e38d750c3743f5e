"""Becomes `python ARGS...`, after making sure that it dies with its parent: `python child.py PARENT_PID ARGS...`.

Run by the engine's own Python, so the standard library is all it may use. It stands between the service and the engine
because doing this in a function between fork and exec is unsafe in a process that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept over exec


def main(parent_pid: int, arguments: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("The process that started this one is gone already.")
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
