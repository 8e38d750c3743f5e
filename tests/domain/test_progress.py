"""Snapshots are whole, and always JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.progress import Snapshot, cleaned

NUMBERS = st.none() | st.floats()


@given(
    st.builds(
        Snapshot,
        st.sampled_from(["pending", "training"]),
        progress=st.floats(0, 100),
        message=st.text(),
        step=st.integers(0),
        loss=NUMBERS,
        learning_rate=NUMBERS,
        eta_seconds=NUMBERS,
    )
)
def test_every_snapshot_is_json_that_reads_back_the_same(snapshot: Snapshot) -> None:
    data = snapshot.to_dict()

    again = json.loads(json.dumps(data, allow_nan=False))

    assert Snapshot.from_dict(again).to_dict() == data


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_null(number: float) -> None:
    assert Snapshot("training", loss=number).to_dict()["loss"] is None


def test_what_another_version_wrote_is_read_as_far_as_it_is_known() -> None:
    assert Snapshot.from_dict({"step": 3, "news": 1}) == Snapshot("pending", step=3)


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_stored_anywhere(text: str) -> None:
    assert "\0" not in cleaned(text)
    cleaned(text).encode()


def test_cleaning_leaves_good_text_as_it_is() -> None:
    assert cleaned("größer\nals 1 €") == "größer\nals 1 €"
    assert cleaned(None) is None
