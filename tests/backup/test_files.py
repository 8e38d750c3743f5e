"""No column that names a file is forgotten by backups, however new it is."""

import re
from uuid import uuid4

from sqlmodel import SQLModel

import api.models  # noqa: F401 - fills the metadata
from api.backup.files import FILES, NOT_FILES, keys_of
from api.models import GeneratedAsset, TrainingCheckpoint
from api.models.base import utcnow

LOOKS_LIKE_A_FILE = re.compile(r"(^|_)(path|key|keys|file|files)$")


def test_every_column_that_looks_like_a_file_is_known() -> None:
    found = {
        (table.name, column.name)
        for table in SQLModel.metadata.sorted_tables
        for column in table.c
        if LOOKS_LIKE_A_FILE.search(column.name)
    }
    excused = {(table, column) for table, columns in NOT_FILES.items() for column in columns}

    assert {table for table, _ in found - excused} == set(FILES)
    assert excused <= found, "an excuse for what is not there"


def test_a_row_names_its_files() -> None:
    assert list(keys_of("generated_asset", GeneratedAsset(prompt="a", storage_path="assets/a.png").model_dump())) == [
        "assets/a.png"
    ]
    assert list(keys_of("generated_asset", GeneratedAsset(prompt="a").model_dump())) == []
    assert list(keys_of("job", {"id": uuid4()})) == []


def test_a_training_checkpoint_counts_once_it_is_stored() -> None:
    row = TrainingCheckpoint(session_id=uuid4(), step=5, files=[{"name": "a", "key": "trainings/a"}])

    assert list(keys_of("training_checkpoint", row.model_dump())) == []
    row.stored_at = utcnow()
    assert list(keys_of("training_checkpoint", row.model_dump())) == ["trainings/a"]
