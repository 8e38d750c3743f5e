"""The figures of a run, for people and for programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Result

COLUMNS = ("n", "p50", "p95", "p99", "max")
BEGIN, END = "<!-- figures: written by scripts/bench -->", "<!-- end of the figures -->"


def show(console: Console, name: str, result: Result) -> None:
    about = ", ".join(f"{key} {value}" for key, value in result.about.items())
    if result.series:
        table = Table("", "n", "p50", "p95", "p99", "largest", title=f"{name}: {about}", title_justify="left")
        for each in result.series:
            found = each.figures()
            cells = [str(found.get(column, "")) for column in COLUMNS]
            table.add_row(f"{each.name}, {each.unit}", *cells)
        console.print(table)
    if result.facts:
        table = Table("", "", "target", "", title=None if result.series else f"{name}: {about}", title_justify="left")
        for fact in result.facts:
            met = {None: "", True: "met", False: "missed"}[fact.met]
            table.add_row(fact.name, f"{fact.figures()['value']} {fact.unit}", fact.target, met)
        console.print(table)


def merge(path: Path, machine: Mapping[str, Any], found: Mapping[str, Result], when: str) -> None:
    """Write the results of this run to the file; those of other benchmarks stay, each with its own machine and time."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = {name: {"measured": when, "machine": dict(machine), **result.figures()} for name, result in found.items()}
    path.write_text(json.dumps(dict(sorted({**kept, **new}.items())), indent=1) + "\n", encoding="utf-8")


def write_page(page: Path, figures: Path) -> None:
    """Put the figures of the file between the marks of the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = as_markdown(json.loads(figures.read_text(encoding="utf-8")))
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")


def as_markdown(figures: Mapping[str, Any]) -> str:
    return "\n".join(_section(name, found) for name, found in figures.items())


def _section(name: str, found: Mapping[str, Any]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in found["about"].items())
    on = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = [f"### {name}", "", f"{found['measured']}: {about}. On: {on}.", ""]
    if found["series"]:
        lines += ["| measured | n | p50 | p95 | p99 | largest |", "|---|---|---|---|---|---|"]
        for label, one in found["series"].items():
            cells = " | ".join(f"{one[column]:,}" if column in one else "" for column in COLUMNS)
            lines.append(f"| {label}, {one['unit']} | {cells} |")
        lines.append("")
    if found["facts"]:
        lines += ["| | | target | |", "|---|---|---|---|"]
        for label, one in found["facts"].items():
            met = {None: "", True: "met", False: "**missed**"}[one.get("met")]
            lines.append(f"| {label} | {one['value']:,} {one['unit']} | {one.get('target', '')} | {met} |")
        lines.append("")
    return "\n".join(lines)
