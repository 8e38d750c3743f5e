"""Tries an installed engine by really starting it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from api.domain.engine import ComfyInstall, TrainerInstall
from api.errors import InstallError
from api.settings import Settings

START_SECONDS = 300  # a first start compiles some thousand files, on a slow disk
STOP_SECONDS = 10
ANSWER_SECONDS = 30
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 25
CHILD = Path(__file__).parents[1] / "comfy" / "child.py"
"""Starts ComfyUI as the worker does: it dies with us, however we die."""
_MISLEADING = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"})
NEEDED_NODES = frozenset({"UNETLoader", "DualCLIPLoader", "VAELoader", "LoraLoaderModelOnly", "KSampler", "SaveImage"})


def comfyui(install: ComfyInstall, scratch: Path) -> dict[str, str]:
    """Start ComfyUI on a free loopback port, ask what it is and which nodes it has, stop it; returns its versions.

    Raises InstallError `engine_does_not_start`, with the end of its log.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".try-") as base:
        for node in install.custom_nodes:
            shutil.copytree(node, Path(base, "custom_nodes", node.name))
        port = _free_port()
        log = Path(base, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                _comfyui_command(install, Path(base), port),
                env=environment(os.environ) | install.env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                system = _first_answer(process, f"http://127.0.0.1:{port}/system_stats", log)["system"]
                missing = NEEDED_NODES - _get(f"http://127.0.0.1:{port}/object_info").keys()
            finally:
                _stop(process)
        if missing:
            raise _does_not_start(
                "ComfyUI", f"its nodes {', '.join(sorted(missing))} are missing", log.read_text(errors="replace")
            )
    return {"comfyui": system["comfyui_version"], "torch": system["pytorch_version"]}


def simpletuner(install: TrainerInstall) -> dict[str, str]:
    """Have the trainer import all it needs and print its options; returns the version of its torch.

    Raises InstallError `engine_does_not_start`.
    """
    env = environment(os.environ) | install.env
    with tempfile.TemporaryDirectory() as cwd:  # it writes debug.log where it stands
        _run([str(install.python), str(install.train_py), "--help"], env, cwd)
        torch = _run(
            [str(install.python), "-c", "from importlib.metadata import version; print(version('torch'))"], env, cwd
        )
    return {"simpletuner": install.version, "torch": torch.strip()}


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours without our own settings (secrets are among them) and without what would mislead another Python.

    The trial leaves bytecode behind, whatever was said for ours: the first start compiles some thousand files, and
    the next ones need not.
    """
    ours = {name.upper() for name in Settings.model_fields} | _MISLEADING
    return {name: value for name, value in environ.items() if name not in ours}


def _comfyui_command(install: ComfyInstall, base: Path, port: int) -> list[str]:
    return [
        *(str(install.python), "-I", "-S", str(CHILD), str(os.getpid()), str(install.source / "main.py")),
        *("--listen", "127.0.0.1", "--port", str(port)),
        *("--base-directory", str(base), "--database-url", "sqlite:///:memory:"),
        *("--disable-api-nodes", "--disable-auto-launch"),
        *(() if install.gpu else ("--cpu",)),
    ]


def _first_answer(process: "subprocess.Popen[bytes]", url: str, log: Path) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _does_not_start(
                "ComfyUI", f"it ended with code {process.returncode}", log.read_text(errors="replace")
            )
        try:
            return _get(url)
        except (OSError, HTTPException):
            time.sleep(POLL_SECONDS)
    raise _does_not_start("ComfyUI", f"it did not answer within {START_SECONDS} s", log.read_text(errors="replace"))


def _get(url: str) -> Any:
    # Never through a proxy: it would not find our loopback.
    with build_opener(ProxyHandler({})).open(url, timeout=ANSWER_SECONDS) as answer:
        return json.load(answer)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(command: list[str], env: dict[str, str], cwd: str) -> str:
    try:
        done = subprocess.run(
            command, env=env, cwd=cwd, capture_output=True, text=True, timeout=START_SECONDS, check=True
        )
    except subprocess.CalledProcessError as exc:
        raise _does_not_start("SimpleTuner", f"it ended with code {exc.returncode}", exc.stdout + exc.stderr) from exc
    except subprocess.TimeoutExpired as exc:
        raise _does_not_start("SimpleTuner", f"it took more than {START_SECONDS} s", "") from exc
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _does_not_start(engine: str, why: str, log: str) -> InstallError:
    tail = "\n".join(log.strip().splitlines()[-LOG_TAIL_LINES:])
    return InstallError(
        f"{engine} is installed and does not start: {why}.\n{tail}",
        code="engine_does_not_start",
        hint="Run the installation again; if it fails the same way, report these lines.",
    )
