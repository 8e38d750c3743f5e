"""Workflow templates: the shipped ones and the user's own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.nodes import ModelFiles, NodeCatalogue
from api.domain.parameters import specs_of
from api.domain.run import WorkflowForm
from api.domain.workflow import WorkflowInvalidError, WorkflowTemplate, parse_template, read_template
from api.domain.workflow_check import check_template, fixed_files
from api.errors import ConflictError, NotFoundError
from api.models import Model, Workflow
from api.models.base import utcnow
from api.settings import PROJECT_ROOT

SHIPPED_DIR = PROJECT_ROOT / "comfy_workflows"
SHIPPED = {
    "flux_text_to_image": ("Text to image", "A picture from a prompt, with a stack of LoRAs."),
    "flux_image_to_image": ("Image to image", "Draws over a picture: `denoise` says how much of it may change."),
    "flux_inpaint": ("Inpaint", "Draws anew what a mask covers, and leaves every other pixel as it was."),
    "flux_upscale": ("Upscale", "A picture from a prompt, enlarged as a latent and then drawn in more detail."),
}
"""Title and description of the templates in `comfy_workflows/`."""


@dataclass(frozen=True, slots=True)
class KnownWorkflow:
    template: WorkflowTemplate
    title: str
    description: str
    id: UUID | None = None
    """Of the user's row; None for a shipped one."""

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def source(self) -> str:
        return "shipped" if self.id is None else "user"


@cache
def shipped() -> Mapping[str, KnownWorkflow]:
    """The templates that come with MASUKA, by name. Raises InputError for one that is damaged."""
    return {
        name: KnownWorkflow(parse_template(name, (SHIPPED_DIR / f"{name}.json").read_text()), title, description)
        for name, (title, description) in SHIPPED.items()
    }


async def listed(session: AsyncSession) -> list[KnownWorkflow]:
    """The shipped ones, then the user's by name."""
    alive = sa.select(Workflow).where(col(Workflow.deleted_at).is_(None)).order_by(col(Workflow.name))
    return [*shipped().values(), *(_known(row) for row in await session.scalars(alive))]


async def find(session: AsyncSession, name: str) -> KnownWorkflow:
    """Raises NotFoundError `workflow_not_found`."""
    if name in shipped():
        return shipped()[name]
    return _known(await _alive(session, name))


async def template_of(session: AsyncSession, config: Mapping[str, Any]) -> WorkflowTemplate:
    """The template that a picture was asked for with, deleted since or not.

    Raises NotFoundError `workflow_not_found` for one that this version no longer ships.
    """
    if (workflow_id := config.get("workflow_id")) is None:
        return (await find(session, config["workflow"])).template
    row = await session.get(Workflow, UUID(workflow_id))
    if row is None:
        raise _not_found(config["workflow"])
    return _known(row).template


async def create(
    session: AsyncSession, catalogue: NodeCatalogue, files: Sequence[ModelFiles], max_side: int, form: WorkflowForm
) -> KnownWorkflow:
    """Keep a template of the user's own; `files` of each base model, of which one must have what the graph names.

    Raises InputError for what is no graph in API format, WorkflowInvalidError with every fault, ConflictError
    `workflow_exists`.
    """
    template, faults = read_template(form.name, form.graph)
    everything = await with_loras(session, together(files), fixed_files(template, catalogue, "loras"))
    faults += check_template(template, catalogue, everything)
    faults += specs_of(template, catalogue, everything, max_side)[1]
    if faults:
        raise WorkflowInvalidError(faults)
    if form.name in shipped():
        raise _exists(form.name)
    row = Workflow(
        name=form.name,
        title=form.title or form.name,
        description=form.description,
        graph=json.dumps(form.graph, ensure_ascii=False),
    )
    try:
        async with session.begin_nested():
            session.add(row)
    except IntegrityError as exc:
        raise _exists(form.name) from exc
    return KnownWorkflow(template, row.title, row.description, row.id)


async def delete(session: AsyncSession, name: str) -> None:
    """Nobody finds it any more; pictures that were asked for with it are made all the same.

    Raises NotFoundError, and ConflictError `workflow_shipped`.
    """
    if name in shipped():
        raise ConflictError(
            f"Workflow {name} comes with MASUKA.",
            code="workflow_shipped",
            value=name,
            hint="Save your own under another name.",
        )
    row = await _alive(session, name)
    row.deleted_at = utcnow()
    await session.flush()


async def with_loras(session: AsyncSession, files: ModelFiles, names: set[str]) -> ModelFiles:
    """These files, and of the LoRAs named those that the worker can fetch."""
    return {**files, "loras": {*files.get("loras", ()), *await named_loras(session, names)}}


async def named_loras(session: AsyncSession, names: set[str]) -> dict[str, Model]:
    """Models by the name of their file; of several with one content any will do."""
    if not names:
        return {}
    named = sa.or_(*(col(Model.storage_path).endswith(f"/{name}", autoescape=True) for name in names))
    found = await session.scalars(sa.select(Model).where(named, col(Model.deleted_at).is_(None)))
    return {model.file_name: model for model in found}


async def _alive(session: AsyncSession, name: str) -> Workflow:
    where = (col(Workflow.name) == name, col(Workflow.deleted_at).is_(None))
    row = await session.scalar(sa.select(Workflow).where(*where))
    if row is None:
        raise _not_found(name)
    return row


def _known(row: Workflow) -> KnownWorkflow:
    return KnownWorkflow(parse_template(row.name, row.graph), row.title, row.description, row.id)


def together(files: Sequence[ModelFiles]) -> ModelFiles:
    """What at least one base model has."""
    folders = {folder for found in files for folder in found}
    return {folder: {name for found in files for name in found.get(folder, ())} for folder in folders}


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(
        "There is no workflow with this name.",
        code="workflow_not_found",
        value=name,
        hint="GET /api/workflows/ lists them.",
    )


def _exists(name: str) -> ConflictError:
    return ConflictError(
        f"There is a workflow {name} already.",
        code="workflow_exists",
        value=name,
        hint="Take another name, or delete that one first: pictures already asked for are not harmed.",
    )
