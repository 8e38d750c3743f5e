"""`masuka`: the command line. A command is loaded when it is called, so that none waits for what the others need."""

import importlib

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "up": "api.commands.service",
    "worker": "api.commands.service",
    "serve": "api.commands.service",
    "token": "api.commands.door",
    "link": "api.commands.door",
    "demo": "api.commands.demo",
    "doctor": "api.commands.setup",
    "report": "api.commands.report",
    "install": "api.commands.setup",
    "train": "api.commands.work",
    "generate": "api.commands.work",
    "list": "api.commands.work",
    "backup": "api.commands.backup",
    "restore": "api.commands.backup",
    "version": "api.commands.version",
}
"""Every command and the module with its function, in the order of the help."""
FUNCTIONS = {"list": "list_"}
"""Of commands whose name means something else to Python."""


class Commands(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        function = getattr(importlib.import_module(COMMANDS[cmd_name]), FUNCTIONS.get(cmd_name, cmd_name))
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(function)
        return typer.main.get_command(alone)  # type: ignore[return-value]


app = typer.Typer(
    name="masuka", cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def masuka() -> None:
    """Train LoRAs and make pictures with them, on one GPU."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
