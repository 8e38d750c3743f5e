"""Starts a training and ends: a worker that dies right after."""

import asyncio
import json
import os
import sys
from pathlib import Path

from api.domain.engine import TrainerInstall
from api.trainer.process import start
from api.trainer.workdir import Workdir


async def main(root: str, described: str) -> None:
    value = json.loads(described)
    install = TrainerInstall(Path(value["python"]), Path(value["train_py"]), value["version"], False, value["env"])
    await start(Workdir(Path(root)), install, job_id="job-1")
    os._exit(0)  # as abruptly as a process that is killed


asyncio.run(main(*sys.argv[1:]))
