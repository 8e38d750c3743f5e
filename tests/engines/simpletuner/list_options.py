"""Runs in SimpleTuner's environment: writes every option that its own parser takes to the file named first.

`api/trainer/options/VERSION.json` are made with it: `python list_options.py VERSION.json`.
"""

import json
import sys
from importlib import import_module
from typing import Any

SIMPLETUNER = "simpletuner"  # not to be found from where this file is checked
REGISTRY = f"{SIMPLETUNER}.simpletuner_sdk.server.services.field_registry.registry"
KINDS = {"int": "integer", "float": "number", "str": "text", "_parse_bool_flag": "flag"}


def options() -> dict[str, dict[str, Any]]:
    """By name: its kind, what it may be, and the model families that it is for if not for all."""
    fields = import_module(REGISTRY).field_registry._fields
    by_option = {field.arg_name: field for field in fields.values()}
    parser = import_module(f"{SIMPLETUNER}.helpers.configuration.cmd_args").get_argument_parser()
    found = {}
    for action in parser._actions:
        field = by_option.get(action.option_strings[0])
        if field is not None:
            found[action.option_strings[0].removeprefix("--")] = described(action, field)
    return dict(sorted(found.items()))


def described(action: Any, field: Any) -> dict[str, Any]:
    listed = [choice["value"] for choice in field.choices or ()]
    choices = [choice for choice in action.choices or listed if choice not in (None, "")]
    limits = {rule.rule_type.value: rule.value for rule in field.validation_rules if rule.value is not None}
    about = {
        "kind": "choice" if choices and action.type is str else KINDS.get(action.type.__name__, "text"),
        "choices": choices,
        "least": limits.get("min"),
        "most": limits.get("max"),
        "families": field.model_specific,
    }
    return {name: value for name, value in about.items() if value not in (None, [])}


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        file.write("{\n" + ",\n".join(f'"{name}": {json.dumps(about)}' for name, about in options().items()) + "\n}\n")
