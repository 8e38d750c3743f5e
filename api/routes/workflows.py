"""`/api/workflows`: templates to draw with, shipped and one's own."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.job import Queue
from api.domain.nodes import ModelFiles, NodeCatalogue
from api.domain.parameters import json_schema, specs_of
from api.domain.run import GRAPH_EXAMPLE, RunRequest, WorkflowForm, WorkflowName
from api.resources import Resources
from api.routes.deps import ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.started import GenerationStarted, started
from api.routes.wait import RESULT, WaitDep
from api.services import node_catalogue, runs, workers, workflows
from api.services.workflows import KnownWorkflow

router = APIRouter(prefix="/api/workflows", tags=["workflows"])

NamePath = Annotated[WorkflowName, Path(examples=["flux_text_to_image"])]
EXAMPLE: dict[str, Any] = {
    "name": "flux_text_to_image",
    "title": "Text to image",
    "description": "A picture from a prompt, with a stack of LoRAs.",
    "source": "shipped",
    "asset_type": "image",
    "takes_loras": True,
    "parameters": {
        "type": "object",
        "properties": {"prompt": {"type": "string", "default": "", "maxLength": 5000}},
        "required": [],
        "additionalProperties": False,
    },
}


class WorkflowOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    name: str
    title: str
    description: str
    source: Literal["shipped", "user"]
    asset_type: Literal["image"]
    takes_loras: bool
    parameters: dict[str, Any] = Field(description="JSON Schema of `parameters` in a request to run it.")


class WorkflowDetail(WorkflowOut):
    model_config = ConfigDict(json_schema_extra={"example": {**EXAMPLE, "graph": GRAPH_EXAMPLE}})

    graph: dict[str, Any] = Field(description="In ComfyUI's API format; the canvas opens it.")


class WorkflowList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE]}})

    items: list[WorkflowOut]


class _Judge:
    """What a workflow's parameters take, on this installation."""

    def __init__(self, catalogue: NodeCatalogue, files: list[ModelFiles], max_side: int) -> None:
        self.catalogue = catalogue
        self.files = files
        self.max_side = max_side

    @classmethod
    async def make(cls, session: AsyncSession, resources: Resources) -> "_Judge":
        settings = resources.settings
        files = await workers.model_files(resources.redis, settings)
        return cls(await node_catalogue.current(session, settings), list(files.values()), settings.masuka_max_side)

    def about(self, known: KnownWorkflow) -> dict[str, Any]:
        specs, _ = specs_of(known.template, self.catalogue, workflows.together(self.files), self.max_side)
        return {
            "name": known.name,
            "title": known.title,
            "description": known.description,
            "source": known.source,
            "asset_type": "image",
            "takes_loras": known.template.lora_node is not None,
            "parameters": json_schema(specs),
        }

    def detail(self, known: KnownWorkflow) -> WorkflowDetail:
        return WorkflowDetail(**self.about(known), graph=known.template.graph)


@router.get("/")
async def list_workflows(session: SessionDep, resources: ResourcesDep) -> WorkflowList:
    """All workflows: the shipped ones, then your own by name."""
    judge = await _Judge.make(session, resources)
    return WorkflowList(items=[WorkflowOut(**judge.about(known)) for known in await workflows.listed(session)])


@router.post("/", status_code=201, responses=responses(409, 422), response_model=WorkflowDetail)
async def create_workflow(body: WorkflowForm, session: SessionDep, resources: ResourcesDep, once: OnceDep) -> Any:
    """Keep a workflow exported from the canvas; a refusal names everything that is wrong with it."""

    async def work() -> WorkflowDetail:
        judge = await _Judge.make(session, resources)
        known = await workflows.create(session, judge.catalogue, judge.files, judge.max_side, body)
        return judge.detail(known)

    return await once(body.model_dump(mode="json"), 201, work)


@router.get("/{name}", responses=responses(404, 422))
async def get_workflow(session: SessionDep, resources: ResourcesDep, name: NamePath) -> WorkflowDetail:
    """One workflow with its graph, as it was exported."""
    judge = await _Judge.make(session, resources)
    return judge.detail(await workflows.find(session, name))


@router.delete("/{name}", status_code=204, responses=responses(404, 409, 422))
async def delete_workflow(session: SessionDep, name: NamePath) -> None:
    """Remove a workflow of your own; pictures that were asked for with it are made all the same."""
    await workflows.delete(session, name)


@router.post(
    "/{name}/run",
    status_code=202,
    responses={**RESULT, **responses(404, 409, 422, 503)},
    response_model=GenerationStarted,
)
async def run_workflow(
    body: RunRequest,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
    wait: WaitDep,
    name: NamePath,
) -> Any:
    """Queue one or more pictures; follow them at `/api/progress/stream/{asset_id}`, or `wait` for them here."""
    wait.require_one_if_bytes(body.num_images)

    async def work() -> GenerationStarted:
        installed = await workers.installed_bases(resources.redis, settings)
        files = await workers.model_files(resources.redis, settings)
        wish = runs.Wish(name, body.parameters, body.base_model, body.loras, body.add_trigger_words, body.webhook_url)
        plan = await runs.plan(session, resources.storage, settings, installed, wish, files)
        pictures = runs.repeated(plan, body.num_images)
        assets = await runs.add(session, pictures, runs.batch_of(pictures, body, workflow=name))
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return started(assets, [])

    return await wait.for_result(await once(body.model_dump(mode="json"), 202, work))
