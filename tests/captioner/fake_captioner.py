"""The real `api/captioner/child.py` but for its model, which does as its folder says: `... -I -B CHILD PID SPEC`.

`acts.json` has, by a part of a picture's name, what is done about it: `["say", TEXT]`, `["fail", CODE]`, `["die"]`,
`["die once"]` or `["hang"]` (until there is a file `go`); one about `load` is an error at the start. The names asked
for go to `asked.txt`, a line each, with the pid before them.
"""

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


class Actor:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.folder, self.prompt = Path(spec["folder"]), spec["prompt"]
        self.acts = json.loads((self.folder / "acts.json").read_text())
        sys.stderr.write(f"loading {spec['family']}\n")
        if "load" in self.acts:
            raise MemoryError("it cannot be loaded")

    def answer(self, path: str) -> dict[str, Any]:
        name = Path(path).name
        with (self.folder / "asked.txt").open("a") as asked:
            asked.write(f"{os.getpid()} {name}\n")
        match next((act for part, act in self.acts.items() if part in name), ["say", f"{self.prompt} about {name}"]):
            case ["say", text]:
                return {"caption": text}
            case ["fail", code]:
                return {"code": code, "error": "it cannot be described"}
            case ["die"]:
                self.die()
            case ["die once"] if not (self.folder / "died").exists():
                (self.folder / "died").touch()
                self.die()
            case ["hang"]:
                while not (self.folder / "go").exists():
                    time.sleep(0.02)
        return {"caption": "after all"}

    def die(self) -> None:
        sys.stderr.write("out of memory\n")
        os.kill(os.getpid(), signal.SIGKILL)


def main(path: str, parent_pid: int, spec: dict[str, Any]) -> int:
    found = importlib.util.spec_from_file_location("child", path)
    assert found is not None
    assert found.loader is not None
    child: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(child)
    child._load = lambda spec: (Actor(spec), {"device": "cpu", "dtype": spec["cpu_dtype"], "transformers": "0"})
    child._answer = lambda actor, picture: actor.answer(picture)
    return int(child.main(parent_pid, spec))


if __name__ == "__main__":
    sys.exit(main(sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5])))
