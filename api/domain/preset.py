"""Presets: all choices of a training for a size of card and a kind of subject, each with its reason. Pure."""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from api.errors import InputError

Subject = Literal["person", "style", "product"]
CARDS_GB = (12, 16, 24, 40, 80)
SAYS_AT_LEAST = 0.95
"""What a card says it has, of what it is sold as: one of 80 GB says 79.6, one of 12 GB 11.6."""


@dataclass(frozen=True, slots=True)
class PresetField:
    value: Any
    why: str
    changing: str
    """What another value does."""


@dataclass(frozen=True, slots=True)
class Preset:
    name: str
    vram_gb: int
    subject: Subject
    description: str
    fields: Mapping[str, PresetField]

    @property
    def settings(self) -> dict[str, Any]:
        """As a request would say them."""
        return {name: field.value for name, field in self.fields.items()}

    def fits(self, vram_gb: float) -> bool:
        return vram_gb >= self.vram_gb * SAYS_AT_LEAST


def parse(text: str) -> list[Preset]:
    """Every preset in `presets.toml`, the smallest card first."""
    said = tomllib.loads(text)
    return [_preset(said, vram_gb, subject) for vram_gb, subject in product(CARDS_GB, get_args(Subject))]


def _preset(said: Mapping[str, Any], vram_gb: int, subject: Subject) -> Preset:
    merged = {**said["all"], **said.get(subject, {}), **said.get(str(vram_gb), {})}
    return Preset(
        name=f"{vram_gb}gb-{subject}",
        vram_gb=vram_gb,
        subject=subject,
        description=f"{said['subject'][subject]['description']} For a card of {vram_gb} GB.",
        fields={
            name: PresetField(about["value"], about["why"], said["changing"][name]) for name, about in merged.items()
        },
    )


def find(presets: Collection[Preset], name: str) -> Preset:
    """Raises InputError `preset_unknown`."""
    found = next((preset for preset in presets if preset.name == name), None)
    if found is None:
        names = [preset.name for preset in presets]
        near = difflib.get_close_matches(name, names, n=1)
        raise InputError(
            f"There is no preset {name!r}{f'; did you mean {near[0]}?' if near else '.'}",
            code="preset_unknown",
            value=name,
            hint=f"Choose one of: {', '.join(names)}.",
        )
    return found


def largest_card(presets: Collection[Preset], vram_gb: float | None) -> int | None:
    """The size of card whose presets make the most of this much memory; None when none fits."""
    return max((preset.vram_gb for preset in presets if vram_gb is not None and preset.fits(vram_gb)), default=None)
