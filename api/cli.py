"""`masuka`: the command line."""

import typer

from api import __version__
from api.commands import service, setup, work
from api.commands.console import JsonOption, console, print_json
from api.commands.demo import demo

app = typer.Typer(
    name="masuka",
    help="Train LoRAs and make pictures with them, on one GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(service.up)
app.command()(service.worker)
app.command()(service.serve)
app.command()(demo)
app.command()(setup.doctor)
app.command()(setup.install)
app.command()(work.train)
app.command()(work.generate)
app.command("list")(work.list_)


@app.command()
def version(as_json: JsonOption = False) -> None:
    """The version of MASUKA."""
    if as_json:
        print_json({"version": __version__})
    else:
        console.print(f"masuka {__version__}", highlight=False)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
