"""Every error MASUKA raises on purpose, in one tree.

MasukaError                     500 internal_error
├── ConfigError                     a setting or a file of the installation is wrong; one line at start
│   └── UnreachableError            a server that a setting names does not answer now; waiting may help
├── InputError                  422 the request cannot be carried out as it is; nothing was changed
│   ├── FaultsError                 every single thing that is wrong, with its place in the body
│   ├── NotFoundError           404
│   ├── ConflictError           409
│   ├── ChangedError            412
│   ├── TooLargeError           413
│   └── UnauthorizedError       401
├── UnavailableError            503 a part we need does not answer now; trying again later may work
└── JobError                        a job failed; `code`, message and hint end on its row
    ├── EngineError                 ComfyUI or SimpleTuner said no, or died
    ├── StorageError                bytes could not be stored, or did not read back as written
    ├── InstallError                an engine or a base model could not be installed
    └── RetryableError              this attempt failed for a reason that another one may not meet

`code` is stable and what programs match on; `detail` says what was wrong; `value` is the value that was wrong;
`hint` says what to do. Only `routes/problems.py` knows how this becomes HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

EX_CONFIG = 78
"""sysexits.h: the exit code of a process whose configuration is wrong; starting it again would not help."""


class MasukaError(Exception):
    """Something went wrong inside MASUKA."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self, detail: str | None = None, *, code: str | None = None, value: Any = None, hint: str | None = None
    ) -> None:
        self.detail = detail or (self.__doc__ or "").strip().splitlines()[0]
        self.code = code or self.default_code
        self.value = value
        self.hint = hint
        super().__init__(self.detail)

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}" if self.hint else self.detail


class ConfigError(MasukaError):
    """A setting is wrong."""

    title = "Wrong configuration"
    default_code = "config_invalid"


class UnreachableError(ConfigError):
    """A server does not answer at the moment, or a setting names the wrong one."""

    default_code = "unreachable"


class InputError(MasukaError):
    """The request cannot be carried out as it is."""

    status = 422
    title = "Invalid request"
    default_code = "invalid_request"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a request."""

    loc: tuple[str | int, ...]
    """Where in the body: `("parameters", "steps")`."""
    message: str
    code: str
    value: Any = None


class FaultsError(InputError):
    """Several things are wrong at once."""

    def __init__(self, faults: Sequence[Fault], *, code: str, hint: str | None = None) -> None:
        first, others = faults[0], len(faults) - 1
        detail = f"{first.message} There is more: {others + 1} things are wrong." if others else first.message
        super().__init__(detail, code=code, value=first.value, hint=hint)
        self.faults = tuple(faults)


class NotFoundError(InputError):
    """There is nothing with this id."""

    status = 404
    title = "Not found"
    default_code = "not_found"


class ConflictError(InputError):
    """The request does not fit the present state."""

    status = 409
    title = "Conflict"
    default_code = "conflict"


class ChangedError(InputError):
    """What `If-Match` names is not what is there now."""

    status = 412
    title = "Changed meanwhile"
    default_code = "changed"


class TooLargeError(InputError):
    """The request is larger than this service takes."""

    status = 413
    title = "Too large"
    default_code = "too_large"


class UnauthorizedError(InputError):
    """A valid token is needed."""

    status = 401
    title = "Unauthorized"
    default_code = "unauthorized"


class UnavailableError(MasukaError):
    """A part that this needs does not answer at the moment."""

    status = 503
    title = "Temporarily unavailable"
    default_code = "unavailable"


class JobError(MasukaError):
    """The job failed."""

    title = "Job failed"
    default_code = "job_failed"

    def __init__(self, detail: str | None = None, *, log_tail: str | None = None, **about: Any) -> None:
        super().__init__(detail, **about)
        self.log_tail = log_tail
        """The end of the engine's own log."""


class EngineError(JobError):
    """An engine failed."""

    default_code = "engine_failed"


class StorageError(JobError):
    """The storage failed."""

    status = 503
    title = "Storage failed"
    default_code = "storage_failed"


class InstallError(JobError):
    """An installation step failed."""

    title = "Installation failed"
    default_code = "install_failed"


class RetryableError(JobError):
    """This attempt failed for a reason that another one may not meet."""

    default_code = "attempt_failed"
