"""`masuka doctor`: everything the service needs, checked for real, each with what to do."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Literal

import httpx
from redis.exceptions import RedisError
from sqlalchemy import text

from api import redis_server, token_file
from api.backup.make import own_index
from api.backup.place import is_wanted, open_place
from api.bind import base_url, require_free
from api.db import open_database
from api.domain.job import Queue
from api.engines import catalogue, gpu, locate
from api.engines.captioners import CAPTIONERS, Captioner
from api.engines.hub import Hub
from api.errors import MasukaError
from api.queue import open_redis
from api.redis_address import redis_url
from api.services import workers
from api.settings import SHORTEST_TOKEN, Settings
from api.storage import open_storage
from api.tunnel import state
from api.tunnel.state import Stand

GB = 10**9
DISK_FLOOR_GB = 5.0
TIMEOUT_SECONDS = 20.0
NEWEST_PYTHON = (3, 13)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    status: Literal["ok", "warning", "failed"]
    found: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(settings: Settings) -> list[Check]:
    """Every check, in the order a newcomer would mend things.

    Makes the data folder and the database's schema if they are not there yet; leaves nothing else behind.
    """
    running = _answers(settings)
    return [
        _python(),
        _disk(settings),
        *_gpus(),
        *(_engine(settings, name) for name in ("comfyui", "simpletuner")),
        *(_base_model(settings, name) for name in catalogue.BASE_MODELS),
        *(_captioner(settings, captioner) for captioner in CAPTIONERS.values()),
        *asyncio.run(_servers(settings, running=running)),
        _port(settings, running=running),
        _token(settings),
        _tunnel(settings),
        _hugging_face(settings),
    ]


# ---- the machine -------------------------------------------------------------------------------------------------


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] > NEWEST_PYTHON:
        return Check(
            "Python", "warning", version, "SimpleTuner supports 3.11 to 3.13; run scripts/bootstrap with one of them."
        )
    return Check("Python", "ok", version)


def _disk(settings: Settings) -> Check:
    settings.masuka_data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.masuka_data_dir).free / GB
    found = f"{free:.0f} GB free for {settings.masuka_data_dir}"
    if free < DISK_FLOOR_GB:
        return Check("disk", "failed", found, f"Free at least {DISK_FLOOR_GB:g} GB, or move MASUKA_DATA_DIR.")
    need = catalogue.FLUX_DEV.disk_gb
    return Check("disk", "ok", found, "" if free > need else f"Enough for the self-test; flux-dev needs {need:g} GB.")


def _gpus() -> list[Check]:
    cards = gpu.detect()
    if not cards:
        return [
            Check(
                "GPU",
                "warning",
                "none found",
                "Only flux-tiny, the self-test, runs without an NVIDIA GPU and its driver.",
            )
        ]
    return [_gpu(card) for card in cards]


def _gpu(card: gpu.Gpu) -> Check:
    capability = ".".join(str(part) for part in card.compute_capability)
    found = f"{card.name}, {card.vram_gb:g} GB, compute capability {capability}, driver {card.driver}"
    if card.compute_capability < (8, 0):
        return Check(
            f"GPU {card.index}", "warning", found, "Too old to train Flux in bf16: it needs compute capability 8.0."
        )
    if catalogue.FLUX_DEV.pick_training_precision(card.vram_gb) is None:
        return Check(f"GPU {card.index}", "warning", found, "Too little VRAM to train flux-dev: it needs 9 GB.")
    return Check(f"GPU {card.index}", "ok", found)


# ---- what is installed -------------------------------------------------------------------------------------------


def _engine(settings: Settings, name: str) -> Check:
    try:
        found = locate.comfyui(settings) if name == "comfyui" else locate.simpletuner(settings)
    except MasukaError as exc:
        return Check(name, "failed", exc.detail, exc.hint or "")
    return Check(name, "ok", f"{found.version} for the {'GPU' if found.gpu else 'CPU'}, {found.python}")


def _base_model(settings: Settings, name: str) -> Check:
    try:
        found = locate.base_model(settings, name)
    except MasukaError as exc:
        needs = f" Needs {catalogue.get(name).disk_gb:g} GB on disk."
        return Check(name, "warning", exc.detail, f"{exc.hint}{needs}")
    return Check(name, "ok", f"{found.unet_name} in {found.models_dir}")


def _captioner(settings: Settings, captioner: Captioner) -> Check:
    """Nobody needs one, so none is missed."""
    try:
        found = locate.captioner(settings, captioner.name)
    except MasukaError as exc:
        wanted = f"For captions: {exc.hint} Needs {captioner.disk_gb:g} GB on disk."
        return Check(captioner.name, "ok", exc.detail, wanted)
    return Check(captioner.name, "ok", str(found.folder))


# ---- servers -----------------------------------------------------------------------------------------------------


async def _servers(settings: Settings, *, running: bool) -> list[Check]:
    checks: dict[str, Callable[[], Awaitable[str]]] = {
        "Redis": lambda: _redis(settings, running=running),
        "database": lambda: _database(settings),
        "storage": lambda: _storage(settings),
        "backups": lambda: _backups(settings),
        **({"GPU use": lambda: _gpu_use(settings)} if running else {}),
    }
    return [await _tried(name, check) for name, check in checks.items()]


async def _tried(name: str, check: Callable[[], Awaitable[str]]) -> Check:
    try:
        return Check(name, "ok", await asyncio.wait_for(check(), TIMEOUT_SECONDS))
    except TimeoutError:
        return Check(name, "failed", f"no answer within {TIMEOUT_SECONDS:g} s", "Check its address and the network.")
    except MasukaError as exc:
        return Check(name, "failed", exc.detail, exc.hint or "")
    except (RedisError, OSError) as exc:
        return Check(name, "failed", str(exc), "Check REDIS_URL, and that the server runs.")


async def _redis(settings: Settings, *, running: bool) -> str:
    if not settings.redis_url and not running:
        return f"embedded, not running: {redis_server.server_binary(settings)}"
    redis = open_redis(redis_url(settings))
    try:
        version = (await redis.info("server"))["redis_version"]
        return f"{'yours' if settings.redis_url else 'embedded'}, {version}"
    finally:
        await redis.aclose(close_connection_pool=True)  # a client does not close a pool that it was given


async def _gpu_use(settings: Settings) -> str:
    """Who holds the GPU now, as its worker says."""
    redis = open_redis(redis_url(settings))
    try:
        use = (await workers.pulse(redis, Queue.GPU) or {}).get("gpu")
    finally:
        await redis.aclose(close_connection_pool=True)
    if use is None:
        return "no GPU worker gives a sign of life"
    held = ", ".join(f"{job['kind']} {job['id']}" for job in use["jobs"])
    return f"{use['mode']}: {held}" if held else use["mode"]


async def _database(settings: Settings) -> str:
    async with open_database(settings) as sessions, sessions() as session:
        await session.execute(text("SELECT 1"))
        return f"{session.get_bind().dialect.name}, schema up to date"


async def _storage(settings: Settings) -> str:
    async with open_storage(settings) as storage:
        await storage.check()
    where = (
        f"bucket {settings.s3_bucket_name}" if settings.s3_bucket_name else f"{settings.masuka_data_dir / 'storage'}"
    )
    return f"{where}: written, read back, deleted"


async def _backups(settings: Settings) -> str:
    if not is_wanted(settings):
        return "none make themselves: neither MASUKA_BACKUP_DIR nor a bucket beside an embedded database is set"
    async with (
        open_database(settings) as sessions,
        open_storage(settings) as storage,
        open_place(settings, storage, None) as place,
    ):
        index = await own_index(place, sessions)
    where = settings.masuka_backup_dir or f"bucket {settings.s3_bucket_name}"
    newest = f"the newest is of {index.snapshots[0].made_at:%Y-%m-%d %H:%M} UTC" if index.snapshots else "none yet"
    return f"{where}: {newest}"


# ---- the way in and out ------------------------------------------------------------------------------------------


def _answers(settings: Settings) -> bool:
    return _healthy(base_url(settings.masuka_host, settings.masuka_port), trust_env=False)


def _healthy(url: str, *, trust_env: bool = True) -> bool:
    headers = {"ngrok-skip-browser-warning": "1"}
    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=trust_env, headers=headers)
        return bool(answer.json() == {"status": "ok"})
    except (httpx.HTTPError, ValueError):
        return False


def _port(settings: Settings, *, running: bool) -> Check:
    address = f"{settings.masuka_host}:{settings.masuka_port}"
    if running:
        return Check("port", "ok", f"MASUKA answers on {address}")
    try:
        if settings.masuka_port:
            require_free(settings.masuka_host, settings.masuka_port)
    except MasukaError as exc:
        return Check("port", "failed", exc.detail, exc.hint or "")
    return Check("port", "ok", f"{address} is free")


def _token(settings: Settings) -> Check:
    try:
        settings.require_safe_bind(settings.masuka_host)
    except MasukaError as exc:
        return Check("API token", "failed", exc.detail, exc.hint or "")
    if not token_file.is_private(settings.masuka_data_dir):
        path = settings.masuka_data_dir / token_file.NAME
        return Check("API token", "failed", f"others may read {path}", f"chmod 600 {path}; then `masuka token --new`.")
    if settings.api_token and len(settings.api_token) < SHORTEST_TOKEN:
        return Check("API token", "warning", "short enough to be guessed", "Leave it empty: `masuka token` makes one.")
    return Check("API token", "ok", "set" if settings.api_token else "none needed on loopback")


def _tunnel(settings: Settings) -> Check:
    """How it stands, and whether its public address answers now."""
    found = state.read(settings)
    if not settings.wants_tunnel:
        return Check("tunnel", "ok", "none wanted: NGROK_AUTH_TOKEN is not set")
    if found is None:
        return Check("tunnel", "ok", "opened by `masuka up`, which does not run now")
    if found.stand is not Stand.OPEN:
        return Check("tunnel", "failed" if found.detail else "warning", found.detail or "it is being opened")
    if _healthy(found.url):
        return Check("tunnel", "ok", f"{found.url} answers from outside")
    return Check(
        "tunnel", "failed", f"{found.url} does not answer", "It is opened anew by itself; see logs/tunnel.log."
    )


def _hugging_face(settings: Settings) -> Check:
    """Whether the token opens the gate of FLUX.1-dev, asked of the hub itself."""
    name, token = "Hugging Face", settings.hf_token.get_secret_value()
    if "flux-dev" in locate.installed_bases(settings):
        return Check(name, "ok", "not needed any more: flux-dev is installed")
    if not token:
        return Check(
            name,
            "warning",
            "HF_TOKEN is not set",
            "Needed to install flux-dev: make one at huggingface.co/settings/tokens.",
        )
    try:
        Hub(token).ask(catalogue.FLUX_DEV.shared_files[0])
    except MasukaError as exc:
        return Check(name, "failed", exc.detail, exc.hint or "")
    return Check(name, "ok", "the token works and the licence of FLUX.1-dev is accepted")
