"""All settings, by the names the user sets in the environment or in `.env`; unknown names are ignored."""

import ipaddress
import math
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api import token_file, webhook_address
from api.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SHORTEST_TOKEN = 16
"""Characters of a token that cannot be guessed at the speed of a network."""
COLAB_SIMPLETUNER = Path("/content/SimpleTuner")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Csv = Annotated[
    list[str],
    NoDecode,
    BeforeValidator(lambda v: [p.strip() for p in v.split(",") if p.strip()] if isinstance(v, str) else v),
]


class Settings(BaseSettings):
    """One value per environment variable; the field is the variable's name in lower case."""

    model_config = SettingsConfigDict(
        env_file=PROJECT_ROOT / ".env", extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    database_url: str = Field("", description="PostgreSQL URL; empty: SQLite in the data folder.")
    redis_url: str = Field("", description="Redis or Valkey URL; empty: an embedded Valkey.")

    aws_access_key_id: str = Field("", description="Key id for S3 or R2.")
    aws_secret_access_key: SecretStr = Field(SecretStr(""), description="Secret for S3 or R2.")
    s3_bucket_name: str = Field("", description="Bucket for datasets, LoRAs and pictures; empty: local disk.")
    s3_region: str = Field("us-east-1", description="Region of the bucket (`auto` for R2).")
    s3_endpoint_url: str = Field(
        "", description="Endpoint of R2 or another S3 server; ignored if it contains `amazonaws.com`."
    )

    hf_token: SecretStr = Field(SecretStr(""), description="Hugging Face token; needed to download FLUX.1-dev.")
    ngrok_auth_token: SecretStr = Field(
        SecretStr(""), description="ngrok token: `masuka up` opens a tunnel to the API, which then wants its own token."
    )

    masuka_ngrok_path: AbsolutePath | None = Field(
        None, description="An ngrok to use instead of the one that is fetched."
    )
    masuka_tunnel_check_seconds: float = Field(
        900, ge=1, description="How often the tunnel's public address is tried; each time is a request of ngrok's plan."
    )

    simpletuner_path: AbsolutePath | None = Field(
        None, description="A SimpleTuner checkout to use instead of the installed one."
    )
    comfyui_path: AbsolutePath | None = Field(
        None, description="A ComfyUI checkout to use instead of the installed one."
    )
    masuka_data_dir: AbsolutePath = Field(PROJECT_ROOT / "data", description="Everything MASUKA writes.")
    masuka_engines_dir: AbsolutePath | None = Field(
        None, description="Engines and base models; default `engines/` in the data folder."
    )
    masuka_base_model: str = Field("", description="Base model for requests that name none.")

    masuka_host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback only with a token.")
    masuka_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    masuka_api_token: SecretStr = Field(SecretStr(""), description="When set, every route but `/health` wants it.")
    masuka_allowed_hosts: Csv = Field(
        default_factory=list, description="Host names besides loopback that requests may carry, comma separated."
    )
    masuka_cors_origins: Csv = Field(
        default_factory=list, description="Web pages that may use the API, as `https://host`, comma separated."
    )
    masuka_trusted_proxies: Csv = Field(
        default_factory=list,
        description="Proxies besides this machine's whose `X-Forwarded-For` is believed, by address, comma separated.",
    )

    default_flux_learning_rate: float = Field(
        1e-4, gt=0, le=1, description="Learning rate of a training that names none."
    )
    default_flux_steps: int = Field(2000, ge=1, le=100_000, description="Steps of a training that names none.")
    default_flux_rank: int = Field(32, ge=1, le=256, description="LoRA rank of a training that names none.")
    default_flux_alpha: float = Field(16, ge=0.1, le=512, description="LoRA alpha of a training that names none.")
    default_resolution: int = Field(1024, ge=64, le=2048, multiple_of=64, description="Training resolution in pixels.")

    masuka_max_file_mb: int = Field(100, ge=1, description="Largest single file of an upload, in MB.")
    masuka_max_upload_mb: int = Field(4096, ge=1, description="Largest upload in all, in MB; a zip counts unpacked.")
    masuka_max_lora_mb: int = Field(4096, ge=1, description="Largest LoRA taken, by upload or from the web, in MB.")
    masuka_max_files: int = Field(5000, ge=1, description="Most files in one upload or zip.")
    masuka_max_image_pixels: int = Field(100_000_000, ge=1, description="Largest image taken, in pixels.")
    masuka_min_image_side: int = Field(32, ge=1, description="Shortest side of a training image, in pixels.")
    masuka_max_side: int = Field(2048, ge=64, description="Largest width or height that can be generated.")
    masuka_min_free_disk_mb: int = Field(
        1024, ge=0, description="Disk space in MB that always stays free; jobs wait for what they need above it."
    )
    masuka_keep_failed_days: int = Field(
        7, ge=0, description="Days that a failed or cancelled training can be resumed by a retry; then it starts anew."
    )
    masuka_keep_completed_days: int = Field(
        7, ge=0, le=36500, description="Days that a completed training can be extended: its last checkpoint is kept."
    )
    masuka_checkpoint_loras: int = Field(
        20, ge=1, le=1000, description="Most LoRAs of training checkpoints that a training keeps to choose from."
    )
    masuka_checkpoint_lora_days: int = Field(
        30, ge=0, le=36500, description="Days after a training that the LoRAs of its training checkpoints are kept."
    )
    masuka_checkpoint_lora_gb: float = Field(
        50, gt=0, description="Size of the LoRAs of all training checkpoints in GB; above it, the oldest trainings' go."
    )
    masuka_lora_cache_gb: float = Field(
        20, gt=0, description="Size of ComfyUI's folder of LoRAs in GB; above it, those not used for longest go."
    )
    masuka_comfyui_max_memory_gb: float = Field(
        0, ge=0, le=100_000, description="ComfyUI is restarted between jobs when it holds more GB of memory; 0: 80 %."
    )
    masuka_allowed_nodes: Csv = Field(
        default_factory=list,
        description="Node classes that workflows may use besides ComfyUI's own that only draw, comma separated.",
    )
    masuka_input_days: int = Field(30, ge=1, description="Days that an uploaded input picture is kept unused.")
    masuka_trash_days: int = Field(
        30, ge=0, le=36500, description="Days that a deleted picture or LoRA can be restored; then its file is removed."
    )
    masuka_backup_dir: AbsolutePath | None = Field(
        None, description="A folder for automatic backups; default: the bucket, for a database on the data disk."
    )
    masuka_redis_server: AbsolutePath | None = Field(
        None, description="A valkey-server or redis-server to embed instead of the bundled one."
    )
    masuka_hang_seconds: float = Field(
        30,
        ge=2,
        description="A part of `masuka up` that gives no sign of life for so long is killed and started again.",
    )
    masuka_stop_training: bool = Field(
        False, description="Stop trainers at a training checkpoint when the GPU worker is stopped; else they go on."
    )
    masuka_gpu_policy: Literal["wait", "share"] = Field(
        "wait",
        description="`wait`: a training has the GPU alone; `share`: one picture at a time beside it if both fit.",
    )
    masuka_webhook_url: SecretStr = Field(
        SecretStr(""), description="Told when a job has ended, unless its request names another URL."
    )
    masuka_webhook_secret: SecretStr = Field(
        SecretStr(""), description="Signs webhooks: `whsec_` and 24 to 64 bytes in base64; two of them during a change."
    )
    masuka_webhook_private: bool = Field(
        False, description="Requests may name webhook URLs in private networks; `MASUKA_WEBHOOK_URL` always may be one."
    )
    masuka_webhook_days: int = Field(30, ge=1, description="Days that the log of webhook deliveries is kept.")
    masuka_log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="Least severe log line shown."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("default_flux_learning_rate", "default_flux_alpha"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name.upper()} must be a finite number")
        if self.database_url:
            _require_database_url(self.database_url)
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("REDIS_URL must start with redis://, rediss:// or unix://")
        if self.s3_bucket_name and not (self.aws_access_key_id and self.aws_secret_access_key.get_secret_value()):
            raise ValueError("S3_BUCKET_NAME is set, so AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are needed too")
        self._require_webhooks()
        for origin in self.masuka_cors_origins:
            _require_origin(origin)
        for address in self.masuka_trusted_proxies:
            _require_address(address)
        return self

    def _require_webhooks(self) -> None:
        for name, check in (("url", webhook_address.require_url), ("secret", webhook_address.signing_keys)):
            value = getattr(self, f"masuka_webhook_{name}").get_secret_value()
            try:
                if value:
                    check(value)
            except ValueError as exc:
                raise ValueError(f"MASUKA_WEBHOOK_{name.upper()} {exc}") from None
        if self.masuka_webhook_url.get_secret_value() and not self.webhook_keys:
            raise ValueError("MASUKA_WEBHOOK_URL is set, so MASUKA_WEBHOOK_SECRET is needed too")

    # ---- derived -------------------------------------------------------------------------------------------------

    @cached_property
    def engines_dir(self) -> Path:
        """By its real path: what is installed there stays installed, whichever link leads to it."""
        return (self.masuka_engines_dir or self.masuka_data_dir / "engines").resolve()

    @cached_property
    def sqlalchemy_url(self) -> str:
        """The database URL as SQLAlchemy's async drivers want it."""
        return (
            sqlalchemy_url(self.database_url)
            if self.database_url
            else f"sqlite+aiosqlite:///{self.masuka_data_dir / 'masuka.db'}"
        )

    @cached_property
    def s3_endpoint(self) -> str | None:
        """The endpoint to name to the S3 client: none for AWS itself, whatever the variable says."""
        return None if not self.s3_endpoint_url or "amazonaws.com" in self.s3_endpoint_url else self.s3_endpoint_url

    @cached_property
    def shares_gpu(self) -> bool:
        return self.masuka_gpu_policy == "share"

    @property
    def api_token(self) -> str:
        """The owner's, or the one that was made here; empty when none is wanted."""
        return self.masuka_api_token.get_secret_value() or token_file.stored(self.masuka_data_dir)

    @cached_property
    def wants_tunnel(self) -> bool:
        return bool(self.ngrok_auth_token.get_secret_value())

    @cached_property
    def webhook_keys(self) -> list[bytes]:
        """What webhooks are signed with; none: they cannot be."""
        return webhook_address.signing_keys(self.masuka_webhook_secret.get_secret_value())

    @cached_property
    def simpletuner_dir(self) -> Path | None:
        """A SimpleTuner checkout named by the user, or Colab's usual one."""
        return self.simpletuner_path or (COLAB_SIMPLETUNER if COLAB_SIMPLETUNER.is_dir() else None)

    def make_data_dir(self) -> None:
        """Raises ConfigError if there can be no folder to write to."""
        try:
            self.masuka_data_dir.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.masuka_data_dir, os.W_OK | os.X_OK)
        except OSError as exc:
            raise _no_data_dir(self.masuka_data_dir, exc.strerror or str(exc)) from exc
        if not writable:
            raise _no_data_dir(self.masuka_data_dir, "it cannot be written to")

    def require_safe_bind(self, host: str) -> None:
        """Raise ConfigError if `host` is reachable from outside and no token guards it."""
        if not is_loopback(host) and not self.api_token:
            raise ConfigError(
                f"MASUKA_HOST={host} is reachable from other machines and no token is set.",
                code="token_required",
                value=host,
                hint="Run `masuka token`, which makes one; or set MASUKA_API_TOKEN; or bind to 127.0.0.1.",
            )


def is_loopback(host: str) -> bool:
    """Whether a bind address or Host name stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _no_data_dir(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"The data folder {path} cannot be used: {reason}.",
        code="data_dir_unusable",
        value=str(path),
        hint="Set MASUKA_DATA_DIR to a folder of your own.",
    )


def _require_origin(origin: str) -> None:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin:
        raise ValueError(f"MASUKA_CORS_ORIGINS: {origin!r} is no origin such as https://example.org; `*` is not taken")


def _require_address(address: str) -> None:
    try:
        ipaddress.ip_network(address)
    except ValueError:
        raise ValueError(f"MASUKA_TRUSTED_PROXIES: {address!r} is no address or network; `*` is not taken") from None


SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
POSTGRES_OPTIONS = ("host", "port", "sslmode", "ssl", "channel_binding")
"""What may follow the `?`: what asyncpg knows, by libpq's names. It binds no channels, and does not need to be told."""


def _require_database_url(url: str) -> None:
    """Raise ValueError for a URL that no driver would understand. The URL itself holds a password: it is not shown."""
    if url.startswith(("sqlite:///", "sqlite+aiosqlite:///")):
        return
    if not url.startswith(("postgres://", "postgresql://", "postgresql+asyncpg://")):
        raise ValueError("DATABASE_URL must start with postgresql:// or sqlite:///")
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed only when asked for
    except ValueError as exc:
        raise ValueError(f"DATABASE_URL is no URL: {exc}") from None
    for key, value in parse_qsl(parts.query):
        if key not in POSTGRES_OPTIONS:
            raise ValueError(f"DATABASE_URL: the option {key} is not understood; remove it")
        if key in ("sslmode", "ssl") and value not in SSL_MODES:
            raise ValueError(f"DATABASE_URL: {key} must be one of {', '.join(SSL_MODES)}, not {value}")


def sqlalchemy_url(url: str) -> str:
    """A database URL as hosts hand it out, for SQLAlchemy: async driver, `sslmode` as asyncpg's `ssl`."""
    if url.startswith("sqlite"):
        return url if "+aiosqlite" in url else url.replace("sqlite:", "sqlite+aiosqlite:", 1)
    parts = urlsplit(url)
    query = [
        ("ssl" if key == "sslmode" else key, value) for key, value in parse_qsl(parts.query) if key != "channel_binding"
    ]
    return f"postgresql+asyncpg://{parts.netloc}{parts.path}" + (f"?{urlencode(query)}" if query else "")


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `.env`.

    Raises ConfigError with one line naming every wrong variable and why.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        lines = []
        for error in exc.errors(include_url=False):
            name = ".".join(str(p) for p in error["loc"]).upper()
            shown = (
                "" if "secret" in name.lower() or "token" in name.lower() or not name else f" (got {error['input']!r})"
            )
            message = error["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {message}{shown}" if name else message)
        raise ConfigError(
            "; ".join(lines), hint=f"Mend it in the environment or in {os.path.relpath(PROJECT_ROOT / '.env')}."
        ) from None
