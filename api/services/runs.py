"""Pictures by workflow: what is asked for is judged as a whole, and only then become rows."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.generation import MAX_IMAGES, MAX_SEED, LoraChoice, affinity, require_stack, seeds_from
from api.domain.job import Kind
from api.domain.nodes import ModelFiles
from api.domain.parameter import ParameterKind, ParameterSpec
from api.domain.parameters import KNOWN, resolve, specs_of
from api.domain.trigger_words import with_trigger_words
from api.domain.workflow import WorkflowInvalidError
from api.domain.workflow_check import check_template, fixed_files
from api.errors import Fault, FaultsError
from api.models import Batch, GeneratedAsset, Job, Model
from api.models.base import utcnow
from api.services import bases, inputs, node_catalogue, stacks, webhooks, workflows
from api.services.workflows import KnownWorkflow
from api.settings import Settings
from api.storage import Storage


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for, by whichever route."""

    workflow: str
    parameters: Mapping[str, Any]
    base_model: str | None = None
    loras: Sequence[LoraChoice] = ()
    add_trigger_words: bool = True
    webhook_url: str | None = None
    at: tuple[str, ...] = ("parameters",)
    """Where in the body the parameters stand."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A wish with every choice made; whoever makes many pictures of it changes `seed`, or takes it `varied`."""

    model_id: UUID | None
    prompt: str
    """As it was given."""
    negative_prompt: str
    base_model: str
    config: Mapping[str, Any]
    """`generation_config` but for the seed."""
    seed: int | None
    """None: a random one."""
    trigger_words: tuple[str | None, ...] = ()
    """Of its LoRAs, as far as they are wanted in the prompt."""

    webhook_url: str | None = None
    """Told of the end of each picture; None: nobody is."""

    def varied(self, prompt: str, scale: float | None) -> "Plan":
        """The same with another prompt and another scale of its first LoRA, if it has one."""
        first, *others = self.config["loras"] or [None]
        stack = [] if first is None else [{**first, "scale": first["scale"] if scale is None else scale}, *others]
        sent = with_trigger_words(prompt, self.trigger_words)
        return replace(self, prompt=prompt, config={**self.config, "loras": stack, "prompt_sent": sent})


async def plan(
    session: AsyncSession,
    storage: Storage,
    settings: Settings,
    installed: Collection[str],
    wish: Wish,
    files: Mapping[str, ModelFiles] = MappingProxyType({}),
) -> Plan:
    """Judge a wish before anything is queued.

    Raises FaultsError `validation_failed` with every wrong parameter, WorkflowInvalidError when ComfyUI could not run
    the graph, other InputErrors for LoRAs, and UnavailableError when the base model is not installed.
    """
    choices, webhook_url = require_stack(list(wish.loras)), webhooks.receiver(settings, wish.webhook_url)
    known = await workflows.find(session, wish.workflow)
    models = await stacks.usable(session, storage, choices)
    if models:
        known.template.require_loras()
    catalogue = await node_catalogue.current(session, settings)
    named = fixed_files(known.template, catalogue, "loras")
    fixed = await workflows.named_loras(session, named)
    base_model = bases.choose(settings, installed, named=wish.base_model, loras=[*models, *fixed.values()])
    there = await workflows.with_loras(session, files.get(base_model, {}), named)
    specs, faults = specs_of(known.template, catalogue, there, settings.masuka_max_side)
    faults = [*check_template(known.template, catalogue, there), *faults]
    if faults:
        raise WorkflowInvalidError(faults)
    values, faults = resolve(specs, wish.parameters)
    pictures = {name: values[name] for name, spec in specs.items() if _is_picture(spec) and name in values}
    found, missing = await inputs.find_all(session, storage, pictures if not faults else {})
    _refuse([*faults, *missing, *_upscaled_faults(values, settings.masuka_max_side)], wish.at)
    stack = [stacks.entry(model, choice.scale) for choice, model in zip(choices, models, strict=True)]
    words = [model.trigger_word for model in models] if wish.add_trigger_words else []
    prompt, negative_prompt = str(values.pop("prompt", "")), str(values.pop("negative_prompt", ""))
    seed = values.pop("seed", None)
    config = {
        **{name: values.pop(name) for name in KNOWN if name in values},
        "base_model": base_model,
        **_workflow(known),
        "loras": stack,
        "prompt_sent": with_trigger_words(prompt, words),
        "parameters": values,
        **({"inputs": found} if found else {}),
        **({"fixed_loras": [stacks.entry(model, None) for model in fixed.values()]} if fixed else {}),
    }
    first = next((model.id for model in models if isinstance(model, Model)), None)
    number = None if seed is None else int(seed)
    return Plan(first, prompt, negative_prompt, base_model, config, number, tuple(words), webhook_url)


async def add(
    session: AsyncSession, pictures: Sequence[tuple[Plan, int]], batch: Batch | None = None
) -> list[GeneratedAsset]:
    """One asset and one job per plan and seed, in their order, also in the queue and in lists."""
    start = utcnow()
    if batch is not None:
        session.add(batch)
    assets = []
    for index, (plan, seed) in enumerate(pictures):
        created = start + timedelta(microseconds=index)
        same_models = affinity(plan.base_model, plan.config["loras"])
        job = Job.new(Kind.IMAGE, affinity=same_models, webhook_url=plan.webhook_url)
        job.created_at = created
        asset = GeneratedAsset(
            model_id=plan.model_id,
            prompt=plan.prompt,
            negative_prompt=plan.negative_prompt,
            generation_config={**plan.config, "seed": seed},
            task_id=job.id,
            batch_id=None if batch is None else batch.id,
            created_at=created,
        )
        session.add_all((job, asset))
        assets.append(asset)
    await session.flush()
    return assets


def batch_of(pictures: Sequence[tuple[Plan, int]], request: BaseModel, **more: Any) -> Batch | None:
    """What several pictures have in common; None for a single one."""
    if len(pictures) == 1:
        return None
    return Batch(total=len(pictures), request={**more, **asked(request)})


def asked(request: BaseModel) -> dict[str, Any]:
    """A request as it was sent, to be shown; a webhook's URL never is."""
    return request.model_dump(mode="json", exclude_unset=True, exclude={"webhook_url"})


def repeated(plan: Plan, count: int) -> list[tuple[Plan, int]]:
    """Pictures with a seed each, from the plan's own on. Raises InputError `seed_out_of_range`."""
    return [(plan, seed) for seed in seeds_from(random_seed() if plan.seed is None else plan.seed, count)]


def random_seed() -> int:
    """Small enough for any number of pictures."""
    return secrets.randbelow(MAX_SEED - MAX_IMAGES)


def _workflow(known: KnownWorkflow) -> dict[str, Any]:
    own = {} if known.id is None else {"workflow_id": str(known.id)}
    return {"workflow": known.name, **own}


def _is_picture(spec: ParameterSpec) -> bool:
    return spec.kind is ParameterKind.IMAGE


def _upscaled_faults(values: Mapping[str, Any], max_side: int) -> list[Fault]:
    """An upscaled picture must not be larger than one that is asked for at once may be."""
    factor, sides = values.get("upscale_by"), [values.get(name) for name in ("width", "height")]
    if not isinstance(factor, int | float):
        return []
    largest = max((side for side in sides if isinstance(side, int)), default=0) * factor
    if largest <= max_side:
        return []
    text = f"upscale_by makes a side of {largest:.0f} pixels; at most {max_side} are allowed by MASUKA_MAX_SIDE."
    return [Fault(("parameters", "upscale_by"), text, "size_too_large", factor)]


def _refuse(faults: Sequence[Fault], at: tuple[str, ...]) -> None:
    """Raises FaultsError if there are any, each at its place in this client's body."""
    if faults:
        placed = [Fault((*at, *fault.loc[1:]), fault.message, fault.code, fault.value) for fault in faults]
        raise FaultsError(placed, code="validation_failed")
