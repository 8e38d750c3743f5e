"""What trainers write of a LoRA into its file, as far as it helps to draw with it. Pure.

`modelspec.*` is Stability AI's model specification, `ss_*` is kohya's; ai-toolkit writes both. None of it is relied
upon: it is what a stranger has written.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from api.domain.text import Name

TRIGGER_PHRASE = "modelspec.trigger_phrase"
TAG_FREQUENCY = "ss_tag_frequency"
"""JSON: {folder: {tag: in how many captions}}."""
DATASET_FOLDERS = "ss_dataset_dirs"
"""JSON: {folder: {"img_count": pictures}}."""

_name: TypeAdapter[str] = TypeAdapter(Name)


def trigger_word(metadata: Mapping[str, str]) -> str | None:
    """What the LoRA listens to: the phrase that the file names, else the one tag that every caption had."""
    return _usable(metadata.get(TRIGGER_PHRASE)) or _usable(_tag_of_all(metadata))


def _tag_of_all(metadata: Mapping[str, str]) -> str | None:
    """The only tag there is, or the only one on every picture: the others say what is in a picture."""
    counts: Counter[str] = Counter()
    for tags in _objects(metadata.get(TAG_FREQUENCY)).values():
        counts.update({tag.strip(): count for tag, count in _counts(tags).items() if tag.strip()})
    if len(counts) == 1:
        return next(iter(counts))
    folders = _objects(metadata.get(DATASET_FOLDERS)).values()
    pictures = sum(_counts(folder).get("img_count", 0) for folder in folders)
    everywhere = [tag for tag, count in counts.items() if pictures and count >= pictures]
    return everywhere[0] if len(everywhere) == 1 else None


def _objects(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _counts(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {str(key): number for key, number in value.items() if type(number) is int and number > 0}


def _usable(text: str | None) -> str | None:
    """None for what is empty, too long or no single line."""
    try:
        return _name.validate_python(text)
    except ValidationError:
        return None
