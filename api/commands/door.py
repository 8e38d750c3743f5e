"""`masuka token` and `link`: what opens the door."""

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from api import token_file
from api.commands.console import JsonOption, UrlOption, open_api, print_json, reporting
from api.settings import load_settings


def token(
    new: Annotated[
        bool, typer.Option("--new", help="Make another one; the old opens nothing after a restart.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the API token; make one if there is none. It is wanted from the next start of the service."""
    with reporting(as_json):
        settings = load_settings()
        own = settings.masuka_api_token.get_secret_value()
        settings.make_data_dir()
        if new and own:
            sys.stderr.write("masuka: MASUKA_API_TOKEN is set and stays the token.\n")
        elif new:
            token_file.replace(settings.masuka_data_dir)
        elif not own:
            token_file.ensure(settings.masuka_data_dir)
    if as_json:
        print_json({"token": settings.api_token})
    else:
        sys.stdout.write(settings.api_token + "\n")


def link(
    to: Annotated[
        str, typer.Option(help="What it opens: /docs, /comfyui/, or another address of the service.")
    ] = "/docs",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a link that lets one browser in, once, within 10 minutes."""
    with reporting(as_json), open_api(load_settings(), url) as client:
        made = client.post(f"/api/door/links?to={quote(to)}")
    if as_json:
        print_json(made)
    else:
        sys.stdout.write((made["public_url"] or made["url"]) + "\n")
