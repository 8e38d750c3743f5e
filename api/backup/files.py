"""Which columns name files of the storage: what a backup must bring besides the rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def _listed(row: Row) -> Iterable[str]:
    return (file["key"] for file in row["files"]) if row["stored_at"] is not None else ()


FILES: Mapping[str, Callable[[Row], Iterable[str | None]]] = {
    "dataset_image": lambda row: (row["key"],),
    "dataset_thumbnail": lambda row: (row["storage_path"],),
    "dataset_version_image": lambda row: (row["key"],),
    "generated_asset": lambda row: (row["storage_path"],),
    "input_image": lambda row: (row["storage_path"],),
    "model": lambda row: (row["storage_path"],),
    "thumbnail": lambda row: (row["storage_path"],),
    "training_candidate": lambda row: (row["storage_path"],),
    "training_log": lambda row: (row["storage_path"],),
    "training_checkpoint": _listed,
}
NOT_FILES: Mapping[str, frozenset[str]] = {
    "dataset": frozenset({"storage_path"}),  # a folder
    "stored_answer": frozenset({"key"}),  # an Idempotency-Key
    "unrecorded_file": frozenset({"key"}),  # one that is being stored, and is removed if nobody does
}
"""Columns that look as if they did."""


def keys_of(table: str, row: Row) -> Iterable[str]:
    """The keys of the files that this row names."""
    named = FILES.get(table)
    return () if named is None else (key for key in named(row) if key)
