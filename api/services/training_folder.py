"""Where on this machine trainings work."""

from pathlib import Path
from uuid import UUID

from api.settings import Settings
from api.trainer.workdir import Workdir


def workdir_of(settings: Settings, session_id: UUID) -> Workdir:
    """All jobs of a session work in the same folder, so that each takes up what those before it have done."""
    return Workdir(_workdirs_root(settings) / str(session_id))


def workdirs(settings: Settings) -> list[Workdir]:
    """Of every session that was ever begun here; a folder has its session's id as its name."""
    return [Workdir(folder) for folder in _workdirs_root(settings).glob("*")]


def _workdirs_root(settings: Settings) -> Path:
    return settings.masuka_data_dir / "training"
