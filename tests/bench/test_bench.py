"""Every benchmark runs, quickly, and its figures are whole; none of them is judged here by what it measured."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import report
from tests.bench.__main__ import BENCHMARKS, FIGURES, PAGE
from tests.bench.figures import Fact, Result, Series

pytestmark = [pytest.mark.engines, pytest.mark.timeout(240)]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "soak"])
async def test_it_measures(name: str, tmp_path: Path, engines_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASUKA_ENGINES_DIR", str(engines_dir))

    found = await BENCHMARKS[name](tmp_path / name, True)

    assert found.series or found.facts
    assert all(value >= 0 for series in found.series for value in series.values)
    assert all(series.values for series in found.series)


async def test_the_soak_measures_and_sees_the_tasks_of_every_python_process(
    tmp_path: Path, engines_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASUKA_ENGINES_DIR", str(engines_dir))

    found = {fact.name: fact.value for fact in (await BENCHMARKS["soak"](tmp_path, True)).facts}

    for name in ("supervisor", "api", "worker-cpu", "worker-gpu"):
        assert found[f"{name}, tasks, last third"] > 0


def test_a_run_replaces_its_own_figures_and_no_others(tmp_path: Path) -> None:
    out = tmp_path / "performance.json"
    old, new = Result((Series("s", "ms", (1.0,)),)), Result((Series("s", "ms", (2.0,)),), (Fact("f", "x", 1.0),))

    report.merge(out, {"cores": 2}, {"a": old, "b": old}, "2026-01-01")
    report.merge(out, {"cores": 4}, {"a": new}, "2026-01-02")

    found = json.loads(out.read_text())
    assert (found["a"]["series"]["s"]["p50"], found["a"]["machine"], found["a"]["measured"]) == (
        2.0,
        {"cores": 4},
        "2026-01-02",
    )
    assert (found["b"]["series"]["s"]["p50"], found["b"]["measured"]) == (1.0, "2026-01-01")


def test_the_page_has_the_figures_of_the_file(tmp_path: Path) -> None:
    assert report.as_markdown(json.loads(FIGURES.read_text())) in PAGE.read_text()
    page = tmp_path / "page.md"
    page.write_text(f"# A\n\n{report.BEGIN}\nold\n{report.END}\n\nB\n")
    figures = tmp_path / "performance.json"
    report.merge(figures, {"cores": 2}, {"a": Result((), (Fact("f", "ms", 3, at_most=2),), {"n": 4})}, "2026-01-01")

    report.write_page(page, figures)

    assert "| f | 3.0 ms | at most 2 | **missed** |" in page.read_text()
    assert "old" not in page.read_text()
    assert page.read_text().startswith("# A\n")
    assert page.read_text().endswith("\n\nB\n")


def test_what_is_shown_says_whether_a_target_was_met(capsys: pytest.CaptureFixture[str]) -> None:
    facts = (Fact("good", "ms", 1, at_most=2), Fact("bad", "ms", 3, at_most=2), Fact("so", "ms", 4))

    report.show(Console(width=100), "a", Result((Series("s", "ms", (1.0,)),), facts, {"pictures": 4}))

    lines = capsys.readouterr().out.splitlines()
    assert any("good" in line and "met" in line and "at most 2" in line for line in lines)
    assert any("bad" in line and "missed" in line for line in lines)
    assert any("a: pictures 4" in line for line in lines)
