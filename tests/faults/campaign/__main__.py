"""`python -m tests.faults.campaign`: see `scripts/faults`."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from api.settings import PROJECT_ROOT, Settings
from tests.faults.campaign.ledger import Ledger
from tests.faults.campaign.plan import plan
from tests.faults.campaign.report import text
from tests.faults.campaign.run import Campaign, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Break the running service, again and again.")
    parser.add_argument("--runs", type=int, default=60, metavar="N", help="faults in all")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="decides which, when and how long")
    parser.add_argument("--minutes", type=float, default=24 * 60, metavar="M", help="no new fault after this time")
    parser.add_argument("--continue", dest="folder", type=Path, metavar="DIR", help="go on with a stopped campaign")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="masuka-faults-", dir="/tmp"))).absolute()
    ledger = Ledger(folder / "ledger.jsonl")
    began = ledger.of("began")
    seed = began[0].about["seed"] if began else options.seed
    ledger.note("began", seed=seed)
    engines = Path(os.environ.get("MASUKA_ENGINES_DIR") or PROJECT_ROOT / "data" / "engines")
    settings = Settings(_env_file=None, masuka_data_dir=folder / "data", masuka_engines_dir=engines)
    tried = len(ledger.of("fault", "skipped"))
    campaign = Campaign(
        folder,
        settings,
        env={},
        seed=seed,
        faults=islice(plan(seed), tried, None),
        runs=options.runs,
        deadline=time.monotonic() + 60 * options.minutes,
    )
    found = asyncio.run(run(campaign, ledger, _say))
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    _say(text(found))
    _say(f"The report, the ledger and the logs are in {folder}.")
    return 0 if found["sound"] else 1


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
