"""`masuka install NAME`: puts an engine, a base model or a captioner in place. Safe to repeat and to interrupt."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from api.domain.captioning import CaptionerName
from api.engines import catalogue, engines, flux_tiny, gpu, locate, receipt
from api.engines.captioners import CAPTIONERS, Captioner
from api.engines.catalogue import GB, BaseModel, Weights
from api.engines.fetch_weights import Report, fetch_files, fetch_weights, require_disk
from api.engines.hub import Hub
from api.engines.receipt import Receipt
from api.errors import InputError, InstallError
from api.settings import Settings

ENGINES = ("comfyui", "simpletuner")
NAMES = (*ENGINES, *catalogue.BASE_MODELS, *CAPTIONERS)
NEEDS = {"flux-tiny": ("comfyui",)} | {name.value: ("simpletuner",) for name in CAPTIONERS}
"""flux-tiny takes its tokenizers from ComfyUI's source; captioners run by SimpleTuner's Python."""
LOCK_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Installer:
    spec: str
    is_there: Callable[[Receipt], bool]
    """Whether what a finished installation left is still there: cheap, it guards against deleted folders."""
    build: Callable[[Report], Receipt]


class Progress(Protocol):
    """What the command line draws as one bar for each name."""

    def __call__(self, name: str, stage: str, fraction: float | None) -> None:
        """`fraction` done of `name`: None when it cannot be known, 1.0 at the end. Called from any thread."""


def install(settings: Settings, name: str, progress: Progress) -> bool:
    """Install `name` and what it needs; False when all was there already (which takes milliseconds).

    Raises InputError `install_unknown` for a name that is not one of NAMES, and InstallError, which says what to do.
    """
    if name not in NAMES:
        raise InputError(
            f"There is nothing called {name!r} to install.",
            code="install_unknown",
            value=name,
            hint=f"Choose one of: {', '.join(NAMES)}.",
        )
    changed = [install(settings, needed, progress) for needed in NEEDS.get(name, ())]
    folder = settings.engines_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(settings.engines_dir / f".{name}.lock", lambda stage: progress(name, stage, None)):
        changed.append(_install_locked(settings, name, folder, progress))
    progress(name, "installed" if any(changed) else "already installed", 1.0)
    return any(changed)


def install_all(settings: Settings, names: Sequence[str], progress: Progress) -> None:
    """Install several at the same time; when one fails the others still finish, then its error is raised."""
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        running = [pool.submit(install, settings, name, progress) for name in names]
    for future in running:
        future.result()


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Raises InstallError `install_locked` after an hour."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("waiting for another installation")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as exc:
            raise InstallError(
                f"Another process has held {path} for {LOCK_SECONDS // 60} minutes.",
                code="install_locked",
                value=str(path),
                hint="Stop it, or wait for it, and run this again.",
            ) from exc
    try:
        yield
    finally:
        lock.release()


def _install_locked(settings: Settings, name: str, folder: Path, progress: Progress) -> bool:
    installer = _installer(settings, name)
    found = receipt.read(folder)
    if found and found.spec == installer.spec and installer.is_there(found):
        return False
    receipt.forget(folder)
    try:
        built = installer.build(lambda stage, fraction: progress(name, stage, fraction))
    except InstallError as exc:
        progress(name, f"failed: {exc.code}", None)
        raise
    receipt.write(folder, built)
    return True


def _installer(settings: Settings, name: str) -> Installer:
    gpus = gpu.detect()
    if name in ENGINES:
        return _engine(name, engines.RECIPES[name](settings, gpu=bool(gpus)))
    if name == catalogue.FLUX_TINY.name:
        return _flux_tiny(settings)
    if name in CAPTIONERS:
        return _captioner(settings, CAPTIONERS[CaptionerName(name)])
    return _downloaded(settings, catalogue.get(name), gpu.largest_vram_gb(gpus))


def _engine(name: str, recipe: engines.Recipe) -> Installer:
    def build(report: Report) -> Receipt:
        require_disk(recipe.folder, int(recipe.disk_gb * GB))
        return engines.BUILDERS[name](recipe, report)

    return Installer(recipe.spec, lambda found: Path(found.python).exists() and Path(found.source).exists(), build)


def _flux_tiny(settings: Settings) -> Installer:
    folder = settings.engines_dir / catalogue.FLUX_TINY.name
    weights = Weights.BF16
    spec = receipt.spec_hash((*flux_tiny.ingredients(), str(catalogue.FLUX_TINY)))

    def build(report: Report) -> Receipt:
        report("making its weights", None)
        new = folder / ".new"
        shutil.rmtree(new, ignore_errors=True)
        flux_tiny.make(new, locate.comfyui(settings).source)
        for part in ("diffusers", "models"):
            shutil.rmtree(folder / part, ignore_errors=True)
            (new / part).rename(folder / part)
        new.rmdir()
        return Receipt(spec=spec, version="1", weights=weights)

    return Installer(spec, partial(_has_files, catalogue.FLUX_TINY, folder), build)


def _downloaded(settings: Settings, base: BaseModel, vram_gb: float | None) -> Installer:
    folder = settings.engines_dir / base.name
    weights = base.pick_weights(vram_gb)
    spec = receipt.spec_hash((base.name, weights, str(base.files(weights)), str(base.links)))

    def build(report: Report) -> Receipt:
        fetch_weights(base, weights, folder, Hub(settings.hf_token.get_secret_value()), report)
        return Receipt(spec=spec, version="main", weights=weights)

    return Installer(spec, partial(_has_files, base, folder), build)


def _captioner(settings: Settings, captioner: Captioner) -> Installer:
    folder = settings.engines_dir / captioner.name
    spec = receipt.spec_hash((captioner.repo, captioner.revision, str(captioner.files)))

    def build(report: Report) -> Receipt:
        fetch_files(captioner.files, folder, Hub(settings.hf_token.get_secret_value()), report)
        return Receipt(spec=spec, version=captioner.revision)

    return Installer(spec, lambda _: all((folder / file.target).is_file() for file in captioner.files), build)


def _has_files(base: BaseModel, folder: Path, found: Receipt) -> bool:
    targets = [file.target for file in base.files(Weights(found.weights))] + [link for _, link in base.links]
    return all((folder / target).is_file() for target in targets)
