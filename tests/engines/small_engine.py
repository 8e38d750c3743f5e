"""An engine small enough to be installed in a second, by the real installer: real uv, real venv, real start.

The packages are wheels made here, and ComfyUI is a checkout with a `main.py` that answers the two questions the
installer asks; files beside it make it misbehave.
"""

import base64
import hashlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from api.engines import engines, torch_build
from api.engines.engines import Recipe
from api.settings import Settings

MAIN = """
import json, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

here = pathlib.Path(__file__).parent
with (here / "starts").open("a") as starts:
    print(__import__("os").getpid(), file=starts)
if (here / "dies").exists():
    sys.exit("the small ComfyUI has no GPU today")
while (here / "hangs").exists():
    time.sleep(0.01)
import small_package
NODES = ["UNETLoader", "DualCLIPLoader", "VAELoader", "LoraLoaderModelOnly", "KSampler", "SaveImage"]
ANSWERS = {
    "/system_stats": {"system": {"comfyui_version": "0.3.75", "pytorch_version": "2.13.0+cpu"}},
    "/object_info": dict.fromkeys(NODES if not (here / "poor").exists() else NODES[:3]),
}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@dataclass(frozen=True)
class SmallEngine:
    settings: Settings
    wheels: Path
    lock: Path
    checkout: Path

    def starts(self) -> list[int]:
        """The pids of every ComfyUI that was started."""
        file = self.checkout / "starts"
        return [int(line) for line in file.read_text().split()] if file.is_file() else []

    def set(self, fault: str) -> None:
        (self.checkout / fault).touch()

    def mend(self, fault: str) -> None:
        (self.checkout / fault).unlink()


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SmallEngine:
    wheels, checkout = folder / "wheels", folder / "ComfyUI"
    wheels.mkdir()
    checkout.mkdir()
    (checkout / "main.py").write_text(MAIN)
    (checkout / "comfyui_version.py").write_text('__version__ = "0.3.75"\n')
    write_wheel(wheels, "torch", f"{torch_build.TORCH}+cpu")
    wheel = write_wheel(wheels, "small_package", "1.0")
    lock = folder / "lock.txt"
    lock.write_text(f"small-package==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    settings = Settings(_env_file=None, masuka_data_dir=folder / "data", comfyui_path=checkout)
    use(lock, wheels, folder / "uv-cache", monkeypatch)
    return SmallEngine(settings, wheels, lock, checkout)


def use(lock: Path, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on ComfyUI is installed from `lock`, and uv knows no wheels but these."""
    for name, value in (("UV_FIND_LINKS", wheels), ("UV_CACHE_DIR", cache), ("UV_OFFLINE", "1")):
        monkeypatch.setenv(name, str(value))

    def recipe(settings: Settings, *, gpu: bool) -> Recipe:
        return replace(engines.comfyui_recipe(settings, gpu=False), locks=(lock,), disk_gb=0.01)

    monkeypatch.setitem(engines.RECIPES, "comfyui", recipe)


def write_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel of one empty module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return wheel


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
