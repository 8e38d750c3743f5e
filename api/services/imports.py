"""LoRAs asked for from the web: an https URL, or a file of the Hugging Face Hub."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.job import Kind
from api.domain.text import Name, Sha256
from api.domain.web_address import MAX_URL_CHARACTERS, parse_url
from api.domain.webhook import WebhookUrl
from api.engines import locate
from api.errors import NotFoundError
from api.models import Job, ModelImport
from api.services import webhooks
from api.settings import Settings

SUFFIX = ".safetensors"
ImportStatus = Literal["pending", "importing", "completed", "failed", "cancelled"]


def _plain_path(path: str) -> str:
    """A file below the repository's root: no way up, no control characters."""
    parts = path.split("/")
    if not path.isprintable() or any(part in ("", ".", "..") for part in parts) or set(path) & set("\\?#%"):
        raise ValueError("must be the path of a file in the repository")
    if not path.endswith(SUFFIX):
        raise ValueError(f"must end with {SUFFIX}")
    return path


RepoId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
RepoFile = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_plain_path)]
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,99}$")]


class ImportRequest(BaseModel):
    """Either `url`, or `repo` and `file`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"url": "https://example.com/ohwx.safetensors", "name": "ohwx"}},
    )

    url: Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARACTERS)] | None = Field(
        None, description="https, on a public server."
    )
    repo: RepoId | None = Field(None, description="Of the Hugging Face Hub: `owner/name`.")
    file: RepoFile | None = Field(None, description="A .safetensors file of that repository.")
    revision: Revision = Field("main", description="Branch, tag or commit of that repository.")
    name: Name | None = Field(None, description="Default: the file's.")
    base_model: Name | None = Field(None, description="Default: recognised by the keys and shapes in the file.")
    trigger_word: Name | None = Field(None, description="Default: the one that the file names.")
    sha256: Sha256 | None = Field(None, description="What the content must be.")
    webhook_url: WebhookUrl | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.repo is None) or (self.repo is None) != (self.file is None):
            raise ValueError("give either url, or repo and file")
        return self

    def source(self) -> dict[str, Any]:
        if self.url is not None:
            return {"url": self.url}
        return {"repo": self.repo, "file": self.file, "revision": self.revision}

    def shown_name(self) -> str:
        """The name that was given, or that of the file."""
        path = self.file if self.url is None else parse_url(self.url).path
        stem = "".join(character for character in PurePosixPath(path or "").stem if character.isprintable())
        return self.name or stem.strip()[:100] or "lora"


async def submit(session: AsyncSession, settings: Settings, request: ImportRequest) -> ModelImport:
    """Validate and write the import and its job.

    Raises InputError `url_not_allowed` or `base_model_unknown` with nothing written, UnavailableError when the base
    model that is named is not installed.
    """
    if request.url is not None:
        parse_url(request.url)
    if request.base_model is not None:
        locate.base_model(settings, request.base_model)
    job = Job.new(Kind.IMPORT, webhook_url=webhooks.receiver(settings, request.webhook_url))
    row = ModelImport(
        name=request.shown_name(),
        source=request.source(),
        sha256=request.sha256,
        base_model=request.base_model,
        trigger_word=request.trigger_word,
        task_id=job.id,
        created_at=job.created_at,
    )
    session.add_all((job, row))
    await session.flush()
    return row


async def get(session: AsyncSession, import_id: UUID) -> ModelImport:
    row = await session.get(ModelImport, import_id)
    if row is None:
        raise NotFoundError("There is no import with this id.", code="import_not_found", value=str(import_id))
    return row


def task_of(row: ModelImport) -> UUID:
    """The job of this import; every import has one from the transaction that made it."""
    if row.task_id is None:
        raise RuntimeError(f"import {row.id} has no job")
    return row.task_id
