"""Keys for the service: from the environment, else from Colab's Secrets. They are handed on, never shown."""

from collections.abc import Mapping

from api.colab import host

NAMES = (
    "HF_TOKEN",
    "NGROK_AUTH_TOKEN",
    "MASUKA_API_TOKEN",
    "S3_BUCKET_NAME",
    "S3_ENDPOINT_URL",
    "S3_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "MASUKA_WEBHOOK_URL",
    "MASUKA_WEBHOOK_SECRET",
)
_NOT_PASSED = frozenset(
    {
        *("PYTHONPATH", "PYTHONHOME", "MPLBACKEND", "VIRTUAL_ENV", "PIP_CONSTRAINT"),
        *("UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_PRERELEASE"),
    }
)
"""Of a kernel's environment: they lead into its packages, which are none of ours. Colab sets nearly all of them."""


def found(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that are set; what the environment has is not asked of Colab."""
    own = {name: environ[name] for name in NAMES if environ.get(name)}
    return {**host.secrets(name for name in NAMES if name not in own), **own}


def environment(environ: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """For our programs, which have their own Python and packages."""
    return {name: value for name, value in environ.items() if name not in _NOT_PASSED} | dict(keys)
