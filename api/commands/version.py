"""`masuka version`."""

from api import __version__
from api.commands.console import JsonOption, console, print_json


def version(as_json: JsonOption = False) -> None:
    """The version of MASUKA."""
    if as_json:
        print_json({"version": __version__})
    else:
        console.print(f"masuka {__version__}", highlight=False)
