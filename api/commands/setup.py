"""`masuka install` and `doctor`: have what is needed, and know what is not there."""

import threading
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from api import doctor as checks
from api.commands.console import EXIT_FAILED, JsonOption, console, print_json, print_table, reporting
from api.engines import install as installer
from api.settings import Settings, load_settings


class InstallBars:
    """One bar for each thing that is installed, updated from any thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._done: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str, stage: str, fraction: float | None) -> None:
        with self._lock:
            if name in self._done:
                return  # what needs it looks at it again, and finds it "already installed"
            if stage.endswith("installed"):
                self._done.add(name)
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=None, stage="")
            total = None if fraction is None else 1.0
            self._progress.update(self._bars[name], total=total, completed=fraction or 0.0, stage=stage)


def install(
    names: Annotated[list[str], typer.Argument(help=f"Any of: {', '.join(installer.NAMES)}.")],
) -> None:
    """Install engines, base models and captioners. Safe to repeat, to interrupt, and to run again after a failure."""
    with reporting():
        install_all(load_settings(), names)


def install_all(settings: Settings, names: Iterable[str]) -> None:
    """Under one bar each: the engines side by side, then the base models. Raises InputError, InstallError."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    wanted = list(dict.fromkeys(names))
    with Progress(*columns, console=console) as progress:
        draw = InstallBars(progress)
        installer.install_all(settings, [name for name in wanted if name in installer.ENGINES], draw)
        for name in wanted:
            installer.install(settings, name, draw)


def doctor(as_json: JsonOption = False) -> None:
    """Check all that MASUKA needs, and say for each thing that is wrong what to do."""
    with reporting(as_json):
        found = checks.examine(load_settings())
    if as_json:
        print_json([check.to_dict() for check in found])
    else:
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[red]failed[/]"}
        print_table(
            "", ("check", "", "found", "what to do"), ((c.name, marks[c.status], c.found, c.remedy) for c in found)
        )
    if any(check.status == "failed" for check in found):
        raise typer.Exit(EXIT_FAILED)
