"""How commands speak: tables and bars for people, one JSON document for scripts, errors on one line."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from api.bind import base_url
from api.client import Api
from api.errors import EX_CONFIG, ConfigError, MasukaError
from api.settings import Settings, load_settings

EXIT_FAILED = 1

console = Console()
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Address of the service; default: MASUKA_HOST and MASUKA_PORT.")
]


@contextmanager
def reporting(as_json: bool = False) -> Iterator[None]:
    """Turn MasukaError into one clear message and an exit code."""
    try:
        yield
    except MasukaError as exc:
        if as_json:
            print_json({"error": {"code": exc.code, "detail": exc.detail, "hint": exc.hint}})
        else:
            Console(stderr=True).print(f"[bold red]masuka:[/] {exc.detail}", soft_wrap=True, highlight=False)
            if exc.hint:
                Console(stderr=True).print(f"  {exc.hint}", soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(EX_CONFIG if isinstance(exc, ConfigError) else EXIT_FAILED) from exc


def open_api(settings: Settings, url: str | None) -> Api:
    return Api(url or base_url(settings.masuka_host, settings.masuka_port), settings.api_token)


@contextmanager
def api(url: str | None, as_json: bool = False) -> Iterator[Api]:
    """The service, with its problems reported."""
    with reporting(as_json), open_api(load_settings(), url) as client:
        yield client


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def follow_with_bar(client: Api, any_id: str, what: str, each: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Follow a job to its end under a progress bar, and call `each` with every snapshot; the last one.

    Raises MasukaError unless it completed.
    """
    last: dict[str, Any] = {}
    with bars() as progress:
        bar = progress.add_task(what, total=None, note="")
        for last in client.follow(any_id):
            note = last["message"] or last["stage"]
            if last.get("loss") is not None:
                note = f"{note}  loss {last['loss']:.4f}"
            progress.update(bar, total=last["total_steps"] or None, completed=last["step"], note=note)
            each()
    if last.get("status") != "completed":
        raise MasukaError(
            f"{what} {last.get('status', 'ended')}: {last.get('error_message') or last.get('message', '')}",
            code=last.get("error_code") or str(last.get("status")),
            hint=last.get("hint"),
        )
    return last
