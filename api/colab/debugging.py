"""The fourth cell: all that tells what is wrong, and a report of it for somebody else, without secrets."""

import json
from pathlib import Path
from typing import Any

from api.colab import host
from api.colab.client import Api
from api.colab.errors import NotebookError
from api.colab.programs import Programs
from api.colab.service import tail
from api.colab.show import Live

LOG_LINES = 15
SESSIONS = 10


def debug(api: Api, programs: Programs, data_dir: Path, *, report: bool) -> Path | None:
    """Each part shows what it can, whatever the others say; the report, if one was asked for."""
    _section("masuka doctor", _doctor(programs))
    status, ready = api.status("/ready")
    _section(f"/ready: {status or 'nobody answers'}", json.dumps(ready, indent=2))
    _section("Trainings", _sessions(api))
    for log in sorted((data_dir / "logs").glob("*.log")):
        _section(f"{log}, its end", tail(log, LOG_LINES))
    if not report:
        return None
    path = data_dir / "notebook" / "masuka-report.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    programs.masuka("report", str(path))
    Live().text(f"The report, without secrets: {path}")
    host.hand_over(path)
    return path


def _doctor(programs: Programs) -> str:
    try:
        return programs.masuka("doctor")
    except NotebookError as exc:  # it says so by its exit code that something is wrong
        return exc.detail


def _sessions(api: Api) -> str:
    try:
        found = api.get("/api/training/", limit=SESSIONS)["items"]
    except NotebookError as exc:
        return str(exc)
    return "\n".join(_words(each) for each in found) or "none"


def _words(session: dict[str, Any]) -> str:
    step = f"{session['current_step']}/{session['total_steps']}"
    return "  ".join([session["status"], step, session["name"], session["id"], session["error_message"] or ""]).rstrip()


def _section(title: str, text: str) -> None:
    Live().text(f"{title}\n{'-' * len(title)}\n{text}")
