"""Trigger words, as trainers leave them in the file."""

import json

import pytest

from api.domain.lora_metadata import trigger_word

TWO = {"10_ohwx": {"ohwx": 20, "smiling": 7}, "5_ohwx": {"ohwx": 10, "outdoors": 2}}
FOLDERS = {"10_ohwx": {"n_repeats": 10, "img_count": 20}, "5_ohwx": {"n_repeats": 5, "img_count": 10}}


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"modelspec.trigger_phrase": " sks dog "}, "sks dog"),
        ({"modelspec.trigger_phrase": "sks", "ss_tag_frequency": '{"a": {"b": 1}}'}, "sks"),
        ({"ss_tag_frequency": '{"1_ohwx": {"ohwx": 1}}'}, "ohwx"),
        ({"ss_tag_frequency": json.dumps(TWO), "ss_dataset_dirs": json.dumps(FOLDERS)}, "ohwx"),
    ],
)
def test_a_file_that_names_its_trigger_word_is_believed(metadata: dict[str, str], word: str) -> None:
    assert trigger_word(metadata) == word


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"modelspec.trigger_phrase": "  "},
        {"modelspec.trigger_phrase": "a\nb"},
        {"modelspec.trigger_phrase": "x" * 101},
        {"ss_tag_frequency": json.dumps(TWO)},
        {"ss_tag_frequency": '{"a": {"b": 2, "c": 2}}', "ss_dataset_dirs": '{"a": {"img_count": 2}}'},
        {"ss_tag_frequency": "not json"},
        {"ss_tag_frequency": "[1]"},
        {"ss_tag_frequency": '{"a": {"b": "many", "c": -1}, "d": 3}'},
        {"ss_tag_frequency": "[" * 100_000},
    ],
)
def test_what_is_no_trigger_word_is_not_taken_for_one(metadata: dict[str, str]) -> None:
    assert trigger_word(metadata) is None
