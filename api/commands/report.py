"""`masuka report`: what somebody needs who is to help, and no secret."""

from pathlib import Path
from typing import Annotated

import typer

from api import report as reports
from api.commands.console import JsonOption, console, print_json, reporting
from api.settings import load_settings


def report(
    file: Annotated[Path, typer.Argument(help="The zip to write; one that is there is replaced.")] = Path(
        "masuka-report.zip"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write a zip with what `masuka doctor` finds, how the jobs stand and the ends of the logs; without secrets."""
    with reporting(as_json):
        names = reports.write(load_settings(), file)
    if as_json:
        print_json({"file": str(file.absolute()), "parts": names})
    else:
        console.print(f"Wrote {file}: {', '.join(names)}.", soft_wrap=True, highlight=False, markup=False)
