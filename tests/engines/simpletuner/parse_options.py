"""Runs in SimpleTuner's environment: puts each config.json named on the command line through its own parser.

Into the file named first go the options of each, and into the one named second the list of all that there are.
"""

import json
import os
import sys
from importlib import import_module

HELPERS = "simpletuner.helpers.configuration"  # not to be found from where this file is checked
parse_cmdline_args = import_module(f"{HELPERS}.cmd_args").parse_cmdline_args
load_json_config = import_module(f"{HELPERS}.json_file").load_json_config

parsed: dict[str, dict[str, str | int | float]] = {}
for path in sys.argv[3:]:
    os.environ["CONFIG_PATH"] = path
    try:
        options = parse_cmdline_args(load_json_config(), exit_on_error=True)
    except (SystemExit, ValueError) as exc:
        parsed[path] = {"error": repr(exc)}
    else:
        parsed[path] = {name: value for name, value in vars(options).items() if isinstance(value, str | int | float)}
with open(sys.argv[1], "w") as file:
    json.dump(parsed, file)
with open(sys.argv[2], "w") as file:
    json.dump(import_module("list_options").options(), file)  # it lies beside this file
