"""`python -m tests.faults.campaign`: see `scripts/faults`."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from api.settings import PROJECT_ROOT
from tests.faults.campaign.ledger import Ledger
from tests.faults.campaign.plan import Target, kinds_with
from tests.faults.campaign.report import text
from tests.faults.campaign.run import Campaign, run

OUTSIDE = (Target.REDIS, Target.POSTGRES, Target.S3)
STOPPED = 130
"""The exit code of a program that was told to stop."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Break the running service, again and again.")
    parser.add_argument("--runs", type=int, default=60, metavar="N", help="faults in all")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="decides which, when and how long")
    parser.add_argument("--minutes", type=float, default=float("inf"), metavar="M", help="no new fault after this time")
    for target in OUTSIDE:
        parser.add_argument(f"--{target}", action="store_true", help=f"use a real {target} server, and break it too")
    parser.add_argument("--continue", dest="folder", type=Path, metavar="DIR", help="go on with a stopped campaign")
    return parser.parse_args()


def _campaign(options: argparse.Namespace) -> Campaign:
    """A new one, or the one that was begun in the folder, with its own seed and servers."""
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="masuka-faults-", dir="/tmp"))).absolute()
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    with closing(Ledger(folder / "ledger.jsonl")) as ledger:
        if not (began := ledger.of("began")):
            asked_for = [target.value for target in OUTSIDE if getattr(options, target)]
            began = [ledger.note("began", seed=options.seed, outside=asked_for)]
    outside = [Target(name) for name in began[0].about["outside"]]
    engines_dir = Path(os.environ.get("MASUKA_ENGINES_DIR") or PROJECT_ROOT / "data" / "engines")
    seed = began[0].about["seed"]
    return Campaign(folder, engines_dir, seed, options.runs, kinds_with(outside), outside, options.minutes)


async def _main(campaign: Campaign) -> int:
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    try:
        found = await run(campaign, _say)
    except asyncio.CancelledError:
        _say(f"Stopped. Go on with: scripts/faults --continue {campaign.folder} --runs {campaign.runs}")
        return STOPPED
    (campaign.folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    _say(text(found))
    _say(f"The report, the ledger and the logs are in {campaign.folder}.")
    return 0 if found["sound"] else 1


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_campaign(_options()))))
