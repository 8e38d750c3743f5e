"""`python -m tests.bench`: see `scripts/bench`."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from api.engines import gpu
from api.settings import PROJECT_ROOT
from tests.bench import (
    api_load,
    event_latency,
    full_queue,
    growth,
    machine,
    overhead,
    real_size,
    report,
    soak,
    start,
    switching,
    upload,
)
from tests.bench.figures import Result

Benchmark = Callable[[Path, bool], Awaitable[Result]]
"""(a new folder, whether to be quick)"""
BENCHMARKS: Mapping[str, Benchmark] = {
    "start": start.run,
    "overhead": overhead.run,
    "full-queue": full_queue.run,
    "events": event_latency.run,
    "api": api_load.run,
    "upload": upload.run,
    "switching": switching.run,
    "growth": growth.run,
    "soak": soak.run,
    "gpu": real_size.run,
}
LONGEST_SECONDS = 2 * 3600.0
"""Of any benchmark, the soak's own time aside: longer than that, something hangs."""
FIGURES = PROJECT_ROOT / "docs" / "performance.json"
PAGE = FIGURES.with_suffix(".md")


async def main(names: Sequence[str], *, quick: bool, minutes: float, out: Path | None) -> None:
    console = Console(width=110)
    console.print(", ".join(f"{key} {value}" for key, value in machine.describe().items()))
    for name in names:
        about, before = machine.describe(), machine.times()
        with tempfile.TemporaryDirectory(prefix=f"masuka-bench-{name}-", dir="/tmp") as folder:
            Path(folder).chmod(0o755)  # PostgreSQL may have to run as another user
            one = partial(soak.run, minutes=minutes) if name == "soak" else BENCHMARKS[name]
            async with asyncio.timeout(LONGEST_SECONDS + 60 * minutes):
                found = await one(Path(folder), quick)
        about |= {"stolen_percent": machine.stolen_percent(before, machine.times())}
        report.show(console, name, found)
        if out is not None:
            report.merge(out, about, {name: found}, datetime.now(UTC).strftime("%Y-%m-%d"))
            if out == FIGURES:
                report.write_page(PAGE, out)
    if out is not None:
        console.print(f"The figures are in {out}.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure MASUKA beside the bare ComfyUI.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which (default: all, gpu where one is): {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--quick", action="store_true", help="a few of each, to see that it works; nothing is written")
    parser.add_argument("--minutes", type=float, default=soak.MINUTES, help="of the soak (default: %(default)g)")
    parser.add_argument("--out", type=Path, default=FIGURES, help="the file of figures (default: %(default)s)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    chosen = _options()
    here = [name for name in BENCHMARKS if name != "gpu" or gpu.detect()]
    try:
        asyncio.run(
            main(
                chosen.names or here,
                quick=chosen.quick,
                minutes=chosen.minutes,
                out=None if chosen.quick else chosen.out.resolve(),
            )
        )
    except KeyboardInterrupt:
        sys.exit(130)
