"""`masuka up` behind a notebook: started once, found again, and started anew when its keys or its code are others."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.colab.client import Api
from api.colab.errors import NotebookError
from api.processes import boot_id, process_start

READY_SECONDS = 600.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.25
LOG_LINES = 25
LAUNCH = '"$0" up >"$1" 2>&1 </dev/null & echo $!'
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Service:
    """Where it lies, and how it is reached from this machine."""

    root: Path
    data_dir: Path
    api: Api

    @property
    def log(self) -> Path:
        return self.data_dir / "logs" / "up.log"

    @property
    def record(self) -> Path:
        """Who was started, with what: by hash, as there are keys in it."""
        return self.data_dir / "notebook" / "service.json"


def ensure(service: Service, env: Mapping[str, str], tell: Tell) -> bool:
    """Have one that runs with this environment and is ready; whether it was started now.

    Raises NotebookError when it does not get ready, or when something else answers there.
    """
    wanted = print_of(env, _version(service.root))
    running = _recorded(service)
    if running is not None and running["print"] != wanted:
        tell("stopping the one with other keys or older code; a trainer goes on by itself")
        _stop(running["pid"])
        running = None
    started = None
    if running is None and not _answers(service.api):
        tell("starting")
        started = _start(service, env, wanted)
    _wait(service, started, tell)
    return started is not None


def print_of(env: Mapping[str, str], version: str) -> str:
    """Of what a running service cannot change: its settings and its code."""
    passing = ("MASUKA_ALLOWED_HOSTS", "MASUKA_CORS_ORIGINS")  # Colab's proxy is there only while a browser is
    settings = {name: value for name, value in env.items() if _is_setting(name) and name not in passing}
    return hashlib.sha256(json.dumps([settings, version], sort_keys=True).encode()).hexdigest()


def _is_setting(name: str) -> bool:
    families = ("MASUKA_", "AWS_", "S3_", "DEFAULT_")
    return name.startswith(families) or name in ("DATABASE_URL", "REDIS_URL", "HF_TOKEN", "NGROK_AUTH_TOKEN")


def _version(root: Path) -> str:
    """The commit; empty where there is no git."""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _recorded(service: Service) -> dict[str, Any] | None:
    """The one that a notebook has started, if it still runs."""
    try:
        found: dict[str, Any] = json.loads(service.record.read_text())
    except (FileNotFoundError, ValueError):
        return None
    same = found["boot_id"] == boot_id() and process_start(found["pid"]) == found["start"] is not None
    return found if same else None


def _start(service: Service, env: Mapping[str, str], print_: str) -> int:
    """Its pid. Nobody's child, and in a session of its own: no interrupted cell and no new kernel ends it."""
    for path in (service.log, service.record):
        path.parent.mkdir(parents=True, exist_ok=True)
    if service.log.exists():
        service.log.replace(service.log.with_suffix(".log.1"))
    command = ["/bin/sh", "-c", LAUNCH, str(service.root / ".venv" / "bin" / "masuka"), str(service.log)]
    said = subprocess.run(
        command, cwd=service.root, env=dict(env), stdout=subprocess.PIPE, text=True, check=True, start_new_session=True
    ).stdout
    pid = int(said)
    who = {"pid": pid, "start": process_start(pid), "boot_id": boot_id(), "print": print_}
    arriving = service.record.with_suffix(".part")
    arriving.touch(mode=0o600)
    arriving.write_text(json.dumps(who))
    arriving.replace(service.record)
    return pid


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while process_start(pid) is not None:
        if time.monotonic() > deadline:
            raise NotebookError(f"The service (process {pid}) does not end.", code="service_does_not_end", value=pid)
        time.sleep(POLL_SECONDS)


def _answers(api: Api) -> bool:
    return api.status("/health")[0] != 0


def _wait(service: Service, started: int | None, tell: Tell) -> None:
    deadline = time.monotonic() + READY_SECONDS
    said = "starting"
    while time.monotonic() < deadline:
        status, found = service.api.status("/ready")
        if status == 200 and found.get("ready"):
            return
        if status not in (0, 200, 503):
            raise NotebookError(
                f"What answers at {service.api.url} is not this MASUKA (status {status}).",
                code="not_ours",
                hint="End it, or set MASUKA_PORT to another port.",
            )
        if status == 0 and started is not None and process_start(started) is None:
            raise NotebookError(f"The service ended:\n{tail(service.log, LOG_LINES)}", code="service_ended")
        missing = [name.replace("_", " ") for name, part in found.get("parts", {}).items() if not part["ok"]]
        said = f"waiting for {', '.join(missing)}" if missing else said
        tell(said)
        time.sleep(POLL_SECONDS)
    raise NotebookError(
        f"The service is not ready after {READY_SECONDS:g} s: {said}.\n{tail(service.log, LOG_LINES)}",
        code="not_ready",
        hint="Run the debug cell, and this one again.",
    )


def tail(path: Path, lines: int) -> str:
    """The end of a log; empty when there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
