"""A trainer that does as it is told: starts as SimpleTuner does, posts where it is told to, fails on request.

For what the real one will not do when asked. FAKE_TRAINER holds a list of [action, argument].
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG = json.loads(Path(os.environ["CONFIG_PATH"]).read_text())
OUTPUT = Path(CONFIG["output_dir"])
CALLBACK = json.loads(Path(CONFIG["webhook_config"]).read_text())["callback_url"]


def post(body: object, url: str = CALLBACK, raw: bytes | None = None) -> int:
    data = json.dumps(body).encode() if raw is None else raw
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def post_raw(text: str) -> None:
    say(f"answered {post(None, raw=text.encode())}")


def post_elsewhere(_: None) -> None:
    say(f"answered {post({}, url=CALLBACK + 'x')}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def say_error(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def steps(count: int) -> None:
    for step in range(1, count + 1):
        progress = {"current": step, "total": count, "metrics": {"loss": 1 / step}}
        post({"type": "training.status", "data": {"status": "running"}, "progress": progress})


def lora(source: str) -> None:
    (OUTPUT / "pytorch_lora_weights.safetensors").write_bytes(Path(source).read_bytes())


def checkpoint(source: str) -> None:
    """Save the training checkpoint that lies ready at `source`."""
    target = OUTPUT / Path(source).name
    shutil.copytree(source, f"{target}-tmp")
    Path(f"{target}-tmp").rename(target)
    post({"type": "training.checkpoint", "checkpoint": {"path": str(target)}})


def draw(file: list[str]) -> None:
    """Save the picture that lies ready at a path under the name that SimpleTuner would give it."""
    name, source = file
    (OUTPUT / "validation_images").mkdir(exist_ok=True)
    shutil.copy(source, OUTPUT / "validation_images" / name)
    post({"type": "training.validation", "message": "Validation", "images": []})
    post({"type": "lifecycle.stage", "stage": {"key": "validation", "status": "completed"}})


def prune(name: str) -> None:
    shutil.rmtree(OUTPUT / name)


def resume(total: int) -> None:
    """Train on from the newest training checkpoint, found as SimpleTuner finds it."""
    names = [name for name in os.listdir(OUTPUT) if name.startswith("checkpoint") and not name.endswith("tmp")]
    start = max(int(name.split("-")[1]) for name in names)
    for step in range(start, total + 1):
        data = {"status": "running", "global_resume_step": start}
        post({"type": "training.status", "data": data, "progress": {"current": step, "total": total}})


def complete(_: None) -> None:
    post({"type": "lifecycle.stage", "stage": {"key": "training_complete", "status": "completed"}})


def child(own_session: bool) -> None:
    process = subprocess.Popen(["sleep", "600"], start_new_session=own_session)
    Path("child.pid").write_text(str(process.pid))


def ignore_sigint(_: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def wait(_: None) -> None:
    Path("waiting").touch()
    while True:
        time.sleep(600)


def wait_for(name: str) -> None:
    """Until a file of this name is in the work folder."""
    Path("waiting").touch()
    while not Path(name).exists():
        time.sleep(0.02)


def save_when_asked(source: str) -> None:
    """As SimpleTuner 4.8: at every step it looks for the wish to save, and after saving it goes on."""
    triggers = Path(os.environ["SIMPLETUNER_ACCELERATE_SIGNAL_FILE"])
    Path("waiting").touch()
    while not json.loads(triggers.read_text()):
        time.sleep(0.01)
    checkpoint(source)
    wait(None)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


ACTIONS: dict[str, Callable[[Any], Any]] = {
    action.__name__: action
    for action in (
        post,
        post_raw,
        post_elsewhere,
        say,
        say_error,
        steps,
        lora,
        checkpoint,
        draw,
        prune,
        resume,
        complete,
        child,
        ignore_sigint,
        wait,
        wait_for,
        save_when_asked,
    )
} | {"die": die, "exit": sys.exit}

OUTPUT.mkdir(exist_ok=True)
try:
    for name, argument in json.loads(os.environ["FAKE_TRAINER"]):
        ACTIONS[name](argument)
except KeyboardInterrupt:
    post({"type": "training.status", "status": "interrupted"})
