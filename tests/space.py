"""A disk whose free space is what the test says."""

from dataclasses import dataclass, replace
from pathlib import Path

from api.disk import DiskSpace, Usage
from api.domain.disk import GB
from api.resources import Resources

FLOOR = 1 * GB


@dataclass
class Space:
    """What is read of it."""

    free: int = 100 * GB
    total: int = 200 * GB

    def __call__(self, _: Path) -> Usage:
        return Usage(self.total, self.free)


def on_disk(resources: Resources, space: Space) -> Resources:
    """The same, on this disk."""
    return replace(resources, disk=DiskSpace(resources.settings.masuka_data_dir, FLOOR, space))
