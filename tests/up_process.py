"""`masuka up` as a process of its own, and the processes that it starts."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from api.settings import PROJECT_ROOT, Settings
from tests.waiting import until

READY_SECONDS = 60
END_SECONDS = 30
COMMANDS = {
    "api": "api.serve",
    "worker-cpu": "api.worker_cpu",
    "worker-gpu": "api.worker_gpu",
    "redis": "valkey-server",
}


@dataclass
class Up:
    """One start of it."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path
    begin: int = 0
    """Of what this start has said, in the log of all starts."""

    def text(self) -> str:
        return self.log.read_bytes()[self.begin :].decode(errors="replace")

    @property
    def port(self) -> int:
        found = re.search(r"ready at http://127\.0\.0\.1:(\d+) ", self.text())
        assert found is not None, self.text()
        return int(found[1])

    async def ready(self) -> None:
        await until(lambda: " ready at " in self.text() or self.process.poll() is not None, READY_SECONDS)
        assert self.process.poll() is None, self.text()

    async def ready_again(self) -> None:
        """After something was killed: `/ready` says 200."""
        await until(lambda: self.status("/ready") == 200, READY_SECONDS)

    def status(self, path: str) -> int:
        """0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process | None:
        """The running child of this name; None between its death and its restart."""
        for process in psutil.Process(self.process.pid).children():
            try:
                if COMMANDS[name] in " ".join(process.cmdline()):  # Valkey writes its own
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def end(self, number: signal.Signals) -> int:
        """The exit code after this signal."""
        self.process.send_signal(number)
        return self.process.wait(END_SECONDS)


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment(settings: Settings, **env: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
    ours = {"MASUKA_DATA_DIR": str(settings.masuka_data_dir), "MASUKA_ENGINES_DIR": str(settings.engines_dir)}
    return {**clean, **ours, "MASUKA_PORT": "0", **env}


@contextmanager
def started(settings: Settings, *words: str, **env: str) -> Iterator[Up]:
    """Start it; whatever happens, nothing of it outlives the block."""
    settings.masuka_data_dir.mkdir(parents=True, exist_ok=True)
    log = settings.masuka_data_dir / "up.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "up", *words],
            cwd=PROJECT_ROOT,
            env=environment(settings, **env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Up(process, settings.masuka_data_dir, log, begin)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            finally:
                process.kill()
                process.wait()


def refused(settings: Settings, *words: str, **env: str) -> tuple[int, list[str]]:
    """A start that cannot be: its exit code, and the lines that it said."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "up", *words],
        cwd=PROJECT_ROOT,
        env=environment(settings, **env),
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()
