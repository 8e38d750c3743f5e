"""Runs uv, which makes the engines' virtual environments (its cache links one torch into all of them)."""

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from uv import find_uv_bin

from api.errors import InstallError
from api.settings import Settings

PIP_CONFIG_FILES = (
    Path("/etc/pip.conf"),
    Path("~/.pip/pip.conf").expanduser(),
    Path("~/.config/pip/pip.conf").expanduser(),
    Path(sys.prefix, "pip.conf"),
)
PINS = ("UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_PRERELEASE")
"""Colab sets them, for its own packages."""
SHOWN_LINES = 12
HTTP_TIMEOUT_SECONDS = "120"
INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)
DISK_FULL = re.compile(r"No space left|os error 28|ENOSPC|Disk quota exceeded")
NETWORK = re.compile(r"Failed to fetch|error sending request|Connection|timed out|dns error|Request failed|HTTP status")


def make_venv(venv: Path, python: str = sys.executable) -> Path:
    """Make `venv` anew, whatever is there; returns its interpreter. Raises InstallError."""
    run("venv", "--clear", "--python", python, str(venv))
    return interpreter(venv)


def interpreter(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(python: Path, *arguments: str) -> None:
    """`uv pip install` into the venv of `python`. Raises InstallError."""
    run("pip", "install", "--python", str(python), *arguments)


def run(*arguments: str) -> None:
    """Raises InstallError `disk_full`, `download_failed` or `install_failed`, with the end of what uv said.

    And `install_interrupted` when uv got the Ctrl-C, as every process of a terminal does.
    """
    command = [find_uv_bin(), "--no-progress", *arguments]
    try:
        subprocess.run(command, env=environment(os.environ), capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as exc:
        if exc.returncode in INTERRUPTED:
            raise InstallError("Interrupted.", code="install_interrupted", hint="Run it again.") from exc
        raise translated(arguments, exc.stderr) from exc


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, with the places that pip is configured to look for wheels in, and without the service's own venv and
    settings: what is built may be anybody's code, and secrets are among them."""
    left = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", *PINS, *(name.upper() for name in Settings.model_fields)}
    ours = {name: value for name, value in environ.items() if name not in left}
    ours.setdefault("UV_HTTP_TIMEOUT", HTTP_TIMEOUT_SECONDS)
    links = pip_find_links(environ, PIP_CONFIG_FILES)
    if links:
        ours.setdefault("UV_FIND_LINKS", ",".join(links))
    return ours


def pip_find_links(environ: Mapping[str, str], config_files: Sequence[Path]) -> list[str]:
    """pip's `find-links`, from its environment variable, else its configuration; uv does not read them."""
    if environ.get("PIP_FIND_LINKS"):
        return shlex.split(environ["PIP_FIND_LINKS"])
    config = configparser.RawConfigParser()
    config.read(config_files)
    return config.get("global", "find-links", fallback="").split()


def translated(arguments: Sequence[str], stderr: str) -> InstallError:
    """What uv said as one of our errors."""
    said = "\n".join(stderr.strip().splitlines()[-SHOWN_LINES:])
    what = f"uv {' '.join(arguments[:2])}"
    if DISK_FULL.search(stderr):
        return InstallError(f"{what}: the disk is full.\n{said}", code="disk_full", hint="Make room and run it again.")
    if NETWORK.search(stderr):
        return InstallError(
            f"{what}: a download failed.\n{said}",
            code="download_failed",
            hint="Check the network and run it again; what is already here is kept.",
        )
    return InstallError(f"{what} failed.\n{said}", hint="Run it again; if it fails the same way, report these lines.")
