"""Which base model a request means."""

from collections.abc import Collection, Sequence
from typing import Protocol

from api.engines import catalogue
from api.errors import InputError, UnavailableError
from api.settings import Settings

PREFERRED = "flux-dev"


class ForBase(Protocol):
    """A LoRA, as a model or not yet."""

    name: str
    base_model: str


def choose(settings: Settings, installed: Collection[str], *, named: str | None, loras: Sequence[ForBase] = ()) -> str:
    """The LoRAs' own base model, else the one named, else MASUKA_BASE_MODEL, else flux-dev when it is installed.

    flux-tiny is a self-test: it is never chosen unless it was named or set. Raises InputError for an unknown name or
    for a LoRA of another base model or family, UnavailableError `base_model_not_installed`.
    """
    wanted = named or (loras[0].base_model if loras else settings.masuka_base_model or PREFERRED)
    _require_drawn_with(loras, wanted)
    catalogue.get(wanted)
    for model in loras:
        if model.base_model != wanted:
            raise InputError(
                f"LoRA {model.name!r} was made for {model.base_model}, not for {wanted}.",
                code="lora_base_mismatch",
                value=model.base_model,
                hint="Leave base_model out, and use LoRAs of one base model together.",
            )
    if wanted not in installed:
        others = ", ".join(sorted(installed)) or "there is none yet"
        raise UnavailableError(
            f"The base model {wanted} is not installed.",
            code="base_model_not_installed",
            value=wanted,
            hint=f"Run `masuka install {wanted}`, or name an installed one: {others}.",
        )
    return wanted


def for_canvas(settings: Settings, installed: Collection[str]) -> str:
    """The one that ComfyUI is started with when only the canvas wants it: any is better than none.

    Raises UnavailableError `base_model_not_installed`.
    """
    wishes = (settings.masuka_base_model, PREFERRED, *sorted(installed))
    return choose(settings, installed, named=next((name for name in wishes if name in installed), None))


def _require_drawn_with(loras: Sequence[ForBase], wanted: str) -> None:
    """Raises InputError `lora_family_unsupported` for a LoRA of a family that is recognised, and no more."""
    for model in loras:
        if model.base_model == wanted and wanted not in catalogue.BASE_MODELS:
            raise InputError(
                f"LoRA {model.name!r} was made for {model.base_model}, and no picture can be drawn with that here.",
                code="lora_family_unsupported",
                value=model.base_model,
                hint=f"Use LoRAs for one of: {', '.join(catalogue.BASE_MODELS)}.",
            )
