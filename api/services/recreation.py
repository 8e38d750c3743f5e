"""The request that makes a picture again, exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.parameters import KNOWN
from api.domain.trigger_words import with_trigger_words
from api.errors import ConflictError, NotFoundError
from api.models import GeneratedAsset, InputImage
from api.services import generation, stacks, workflows
from api.services.workflows import KnownWorkflow

LIGHTER = (
    "Memory ran out when this picture was drawn, so its last step was done in pieces; the new one may differ a bit."
)


@dataclass(frozen=True, slots=True)
class Recreation:
    """A POST to `path` with `body` asks for the same picture, as a new asset."""

    path: str
    body: dict[str, Any]
    warnings: list[str]


async def recreation(session: AsyncSession, asset: GeneratedAsset) -> Recreation:
    """Raises ConflictError `asset_not_recreatable` with what is missing: only what is still there can be asked for."""
    config = asset.generation_config
    if "sample" in config:
        raise _not_recreatable("This picture was drawn by a trainer, with a LoRA as it was in between.", "")
    if "workflow" not in config:
        raise _not_recreatable("This picture was drawn by hand in the canvas, without a workflow that has a name.", "")
    known = await _workflow(session, config)
    loras, gone = await _loras(session, config)
    gone += await _missing_inputs(session, config)
    if known is None:
        gone.insert(0, f"workflow {config['workflow']}")
    if known is None or gone:
        raise _not_recreatable(f"What this picture was made with is not there any more: {', '.join(gone)}.", gone[0])
    prompt, add_trigger_words = _prompt(asset, loras)
    taken = known.template.parameters.keys()
    values = {
        **{name: config[name] for name in KNOWN if name in config},
        **config.get("parameters", {}),
        "prompt": prompt,
        "negative_prompt": asset.negative_prompt,
    }
    body = {
        "parameters": {name: value for name, value in values.items() if name in taken},
        "base_model": config["base_model"],
        "loras": [stacks.choice(lora) for lora in config["loras"]],
        "add_trigger_words": add_trigger_words,
        "num_images": 1,
    }
    warnings = [LIGHTER] if config.get("output", {}).get("lighter") else []
    return Recreation(f"/api/workflows/{known.name}/run", body, warnings)


def _not_recreatable(detail: str, value: str) -> ConflictError:
    return ConflictError(
        detail,
        code="asset_not_recreatable",
        value=value or None,
        hint="Its file holds the whole graph: open it in the canvas, or keep the graph with POST /api/workflows/.",
    )


async def _workflow(session: AsyncSession, config: Mapping[str, Any]) -> KnownWorkflow | None:
    """None when it is gone, and when another has its name now."""
    try:
        known = await workflows.find(session, config["workflow"])
    except NotFoundError:
        return None
    return known if config.get("workflow_id") == (None if known.id is None else str(known.id)) else None


async def _loras(session: AsyncSession, config: Mapping[str, Any]) -> tuple[list[stacks.Lora], list[str]]:
    """The stack, and what of it and of the LoRAs that the workflow names is gone."""
    found = {lora["file"]: await stacks.find_again(session, lora) for lora in _all_loras(config)}
    gone = [f"LoRA {file}" for file, model in found.items() if model is None]
    stack = [found[lora["file"]] for lora in config["loras"]] if "loras" in config else []
    return [model for model in stack if model is not None], gone


def _all_loras(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*config.get("loras", ()), *config.get("fixed_loras", ())]


async def _missing_inputs(session: AsyncSession, config: Mapping[str, Any]) -> list[str]:
    gone = []
    for name, source in config.get("inputs", {}).items():
        picture_id = UUID(source["id"])
        if await session.get(InputImage, picture_id) is None and not await _is_asset(session, picture_id):
            gone.append(f"{name} {picture_id}")
    return gone


async def _is_asset(session: AsyncSession, asset_id: UUID) -> bool:
    try:
        await generation.get(session, asset_id)
    except NotFoundError:
        return False
    return True


def _prompt(asset: GeneratedAsset, loras: list[stacks.Lora]) -> tuple[str, bool]:
    """The prompt to give and whether trigger words go in front of it, so that the one that was sent comes out."""
    sent = asset.generation_config.get("prompt_sent", asset.prompt)
    if with_trigger_words(asset.prompt, [model.trigger_word for model in loras]) == sent:
        return asset.prompt, True
    return sent, False  # also when the words of a LoRA have changed since
