"""What makes two states of a dataset the same."""

import hashlib
import json
from collections.abc import Iterable
from typing import Protocol


class Content(Protocol):
    """An image of a dataset, as far as a training can tell."""

    @property
    def position(self) -> int: ...
    @property
    def filename(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def caption_source(self) -> str: ...


def content_sha256(trigger_word: str | None, images: Iterable[Content]) -> str:
    """Of the trigger word and the images, given in their order; what no training can tell apart may differ in it."""
    digest = hashlib.sha256(json.dumps(trigger_word).encode())
    for image in images:
        told = [image.position, image.filename, image.sha256, image.caption, image.caption_source]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest()


def image_tag(image: Content) -> str:
    """Changes with anything that a client can change of an image."""
    return hashlib.sha256(json.dumps([image.filename, image.sha256, image.caption]).encode()).hexdigest()[:32]
