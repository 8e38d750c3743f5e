"""The README is a promise: its settings are the code's, its codes, commands and proofs exist, and its snippets run."""

import re
from pathlib import Path

import pytest

from api.cli import COMMANDS
from api.settings import PROJECT_ROOT, Settings

README = (PROJECT_ROOT / "README.md").read_text()


def settings_table() -> str:
    """The table as the README must have it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = shown_default(field.get_default(call_default_factory=True))
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def shown_default(value: object) -> str:
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    if text is None or text in ("", []):
        return ""
    if isinstance(text, Path):
        return f"`{text.relative_to(PROJECT_ROOT)}/`"
    return f"`{text}`"


def test_the_settings_table_is_the_code() -> None:
    found = re.search(r"<!-- settings: .*? -->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1] == settings_table()


def test_every_error_code_of_the_readme_is_raised_somewhere() -> None:
    source = "\n".join(path.read_text() for path in (PROJECT_ROOT / "api").rglob("*.py"))
    table = README.split("| code |", 1)[1].split("\n\n", 1)[0]
    codes = [code for row in table.splitlines()[2:] for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    assert len(codes) > 20
    assert [code for code in codes if f'"{code}"' not in source] == []


def test_every_masuka_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"(?:\.venv/bin/|`)masuka ([a-z]+)", README))
    assert named
    assert named <= COMMANDS.keys()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_every_local_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (PROJECT_ROOT / link).exists()


def test_every_test_that_the_promises_name_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", (PROJECT_ROOT / "docs" / "reliability.md").read_text()))
    assert len(named) > 15
    assert [path for path in sorted(named) if not (PROJECT_ROOT / path).is_file()] == []
